//! What a version costs the planner: the first of a cluster, the next after one change, one node's update.

use std::hint::black_box;

use cluster::{changed, key, rows};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rap_planner::{ClusterRows, plan};

mod cluster;

fn plans(criterion: &mut Criterion) {
    let key = key();
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
