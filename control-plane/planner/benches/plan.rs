//! What a version costs the planner: the first of a cluster, the next after one change, one node's update.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rap_planner::{ClusterRows, Limits, MapKey, NodeRow, plan};
use rap_types::{ClusterId, Digest, Incarnation, InstallationId, NodeId, Role, Version};

fn node(number: u32) -> NodeRow {
    let digest = *Digest::of(&[&number.to_be_bytes()]).as_bytes();
    NodeRow {
        node: NodeId::from_slice(&digest[..16]).expect("16 bytes"),
        name: format!("node-{number}"),
        node_public_key: digest,
        wireguard_public_key: digest,
        organization: None,
        roles: vec![Role::Core],
        tags: Vec::new(),
        region: "region".into(),
        link_endpoints: vec![format!("node-{number}.example.net:7443")],
        wireguard_endpoints: vec![format!("node-{number}.example.net:51820")],
        host_number: number,
        key_generation: 1,
    }
}

fn rows(nodes: u32) -> ClusterRows {
    ClusterRows {
        installation: InstallationId::from_bytes([1; 16]),
        cluster: ClusterId::from_bytes([2; 16]),
        name: "bench".into(),
        incarnation: Incarnation(1),
        version: Version(1),
        ipv4_pool: "100.96.0.0/16".parse().expect("a prefix"),
        cluster_ca: vec![1; 500],
        degraded_for_ms: 43_200_000,
        leaf_lifetime_ms: 86_400_000,
        mtu: 1280,
        link_probe_interval_ms: 1_000,
        wireguard_keepalive_s: 25,
        nodes: (1..=nodes).map(node).collect(),
        wireguard_key_max_age_ms: 0,
        identity_key_max_age_ms: 0,
        degraded_ends: Vec::new(),
        survive_forever_roles: Vec::new(),
        gone: Vec::new(),
        revocations: Default::default(),
        leaves: BTreeMap::new(),
        limits: Limits { peers: usize::MAX, update_bytes: usize::MAX },
    }
}

/// One node's row of the next version.
fn changed(rows: &ClusterRows, change: impl Fn(&mut NodeRow)) -> ClusterRows {
    let mut node = rows.nodes[0].clone();
    change(&mut node);
    ClusterRows { version: Version(2), nodes: vec![node], ..rows.clone() }
}

fn plans(criterion: &mut Criterion) {
    let key = MapKey::from_bytes([9; 32]);
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(20);
    for nodes in [100, 1_000, 2_000, 10_000] {
        let first_rows = rows(nodes);
        let first = plan(&first_rows, &key).expect("sound rows");
        let own = changed(&first_rows, |node| node.tags = vec!["edge".into()]);
        let seen = changed(&first_rows, |node| node.region = "elsewhere".into());
        let next = |rows: &ClusterRows| first.next(rows, &key).expect("sound rows").expect("no limit");
        group.bench_function(BenchmarkId::new("full", nodes), |bencher| {
            bencher.iter(|| plan(black_box(&first_rows), &key));
        });
        group.bench_function(BenchmarkId::new("private", nodes), |bencher| {
            bencher.iter(|| next(black_box(&own)));
        });
        group.bench_function(BenchmarkId::new("shared", nodes), |bencher| {
            bencher.iter(|| next(black_box(&seen)));
        });
        let (second, target) = (next(&seen), first_rows.nodes[1].node);
        group.bench_function(BenchmarkId::new("update", nodes), |bencher| {
            bencher.iter(|| second.update(target, first.nodes.get(&target), b"head"));
        });
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
