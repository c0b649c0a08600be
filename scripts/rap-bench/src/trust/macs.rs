//! Row MACs of 10,000 nodes: checked alone, and read through the store as a round of publication reads them.
//!
//! The rows are made in one transaction of the running control plane's database, which is never committed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rap_authority::{Columns, RowKeys, SealingKey};
use rap_store::postgres::EmbeddedSettings;
use rap_store::{
    DatabaseTarget, NewClusterRow, NewNodeRow, NodeFacts, PoolSettings, Store, SystemTransaction,
    cluster_insert, host_number_allocate, node_insert, nodes_list,
};
use rap_types::{ClusterId, InstallationId, NodeId, Role};

use super::Measured;
use crate::control_plane::ControlPlane;
use crate::measure::{Stopwatch, microseconds_per_call};
use crate::settings::Settings;

/// Measures every row of this part.
pub async fn measure(settings: &Settings, control: &ControlPlane, measured: &mut Measured) -> Result<()> {
    let cluster = ClusterId::from_bytes(random());
    let keys = RowKeys::of_cluster(
        InstallationId::from_bytes(random()),
        cluster,
        &SealingKey::generate(&mut rand::rng()),
    );
    if settings.wants(&["row_macs_10k"]) {
        let rows: Vec<_> = (0..ROWS).map(|number| sealed(&keys, number)).collect();
        let check = |rows: &Vec<(String, Columns, [u8; 32])>| {
            rows.iter()
                .filter(|(key, columns, mac)| keys.check("nodes", key, 1, columns, mac).is_some())
                .count()
        };
        ensure!(check(&rows) == ROWS as usize, "every MAC holds");
        let spell = Duration::from_millis(if settings.quick { 60 } else { 250 });
        let run = |_| microseconds_per_call(spell, || (), |()| check(&rows)) / 1000.0;
        let note = format!("{ROWS} rows of about 215 covered bytes under the newest key; processor time");
        measured.insert("row_macs", ((0..settings.rounds).map(run).collect(), note));
    }
    if settings.wants(&["row_macs_10k_read"]) {
        let target = DatabaseTarget::embedded_elsewhere(&EmbeddedSettings::new(control.data_dir()))?;
        let store = Store::open(&target, &PoolSettings::default()).await?;
        let mut transaction = store.system().begin().await?;
        nodes(&mut transaction, &keys).await.context("10,000 nodes")?;
        let mut runs = Vec::new();
        for _ in 0..settings.rounds {
            let started = Stopwatch::start();
            let read = nodes_list(&mut transaction, &keys).await?;
            runs.push(started.elapsed_ms());
            ensure!(read.len() == ROWS as usize, "every row is read and holds");
        }
        transaction.rollback().await?;
        let note = format!(
            "{ROWS} nodes with their roles: query, decoding and MACs, as a round of publication reads them; wall time"
        );
        measured.insert("row_macs_read", (runs, note));
    }
    Ok(())
}

/// Key, columns and MAC of a row about as large as a node's.
fn sealed(keys: &RowKeys, number: u32) -> (String, Columns, [u8; 32]) {
    let key = NodeId::from_bytes(random()).to_string();
    let columns = Columns::new()
        .text(&format!("node-{number}"))
        .bytes(&random::<32>())
        .bytes(&random::<32>())
        .number(number.into())
        .text("active")
        .words(["core", "relay-node"])
        .words(["192.0.2.1:7443"])
        .words(["192.0.2.1:51820"])
        .text("eu")
        .words(["rack:1"])
        .flag(false)
        .number(1);
    let mac = keys.seal("nodes", &key, 1, &columns);
    (key, columns, mac)
}

async fn nodes(transaction: &mut SystemTransaction, keys: &RowKeys) -> Result<()> {
    let cluster = NewClusterRow {
        cluster: keys.cluster(),
        name: "row-macs".to_owned(),
        incarnation: 1,
        ipv4_pool: "10.0.0.0/16".parse()?,
        dev: true,
        fresh_for_ms: 300_000,
        refresh_every_ms: 30_000,
        degraded_for_ms: 43_200_000,
        leaf_lifetime_ms: 86_400_000,
        sealed_map_key: vec![1; 61],
    };
    cluster_insert(transaction, keys, &cluster).await?;
    for number in 0..ROWS {
        let node = NodeId::from_bytes(random());
        let host_number =
            host_number_allocate(transaction, keys, node, 65_534).await?.context("a host number")?;
        let facts = NodeFacts {
            link_endpoints: vec!["192.0.2.1:7443".to_owned()],
            wireguard_endpoints: vec!["192.0.2.1:51820".to_owned()],
            region: "eu".to_owned(),
            tags: vec!["rack:1".to_owned()],
            ..NodeFacts::default()
        };
        let row = NewNodeRow {
            node,
            cluster: keys.cluster(),
            organization: None,
            name: format!("node-{number}"),
            node_public_key: random(),
            wireguard_public_key: random(),
            host_number,
            roles: vec![Role::Core, Role::RelayNode],
            ephemeral: false,
            facts,
        };
        node_insert(transaction, keys, &row).await?;
    }
    Ok(())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

const ROWS: u32 = 10_000;
