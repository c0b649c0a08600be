//! What a version costs the planner: the first of a cluster, the next after one change, one node's update.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rap_planner::{ClusterRows, LeafMemory, MapKey, NodeRow, Plan, plan};
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
        leaf: None,
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
    }
}

/// The rows of the next version, with what the first one published.
fn changed(mut rows: ClusterRows, first: &Plan, change: impl Fn(&mut NodeRow)) -> ClusterRows {
    rows.version = Version(2);
    for node in &mut rows.nodes {
        let known = &first.nodes[&node.node];
        node.leaf = Some(LeafMemory { generation: known.generation, manifest_root: known.manifest_root });
    }
    change(&mut rows.nodes[0]);
    rows
}

fn plans(criterion: &mut Criterion) {
    let key = MapKey::from_bytes([9; 32]);
    let mut group = criterion.benchmark_group("plan");
    for nodes in [100, 1_000] {
        let first_rows = rows(nodes);
        let first = plan(&first_rows, &key, None).expect("sound rows");
        let own = changed(first_rows.clone(), &first, |node| node.tags = vec!["edge".into()]);
        let seen = changed(first_rows.clone(), &first, |node| node.region = "elsewhere".into());
        group.bench_function(BenchmarkId::new("first", nodes), |bencher| {
            bencher.iter(|| plan(black_box(&first_rows), &key, None));
        });
        group.bench_function(BenchmarkId::new("own_change", nodes), |bencher| {
            bencher.iter(|| plan(black_box(&own), &key, Some(&first)));
        });
        group.bench_function(BenchmarkId::new("seen_change", nodes), |bencher| {
            bencher.iter(|| plan(black_box(&seen), &key, Some(&first)));
        });
        let second = plan(&own, &key, Some(&first)).expect("sound rows");
        let target = own.nodes[0].node;
        group.bench_function(BenchmarkId::new("update", nodes), |bencher| {
            bencher.iter(|| second.update(target, Some(&first.nodes[&target].manifest), b"head"));
        });
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
