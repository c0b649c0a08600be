//! What one delta costs a node, from message to acknowledgement, without the disk.

mod scope;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use scope::{Scope, apply};

fn apply_delta(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply_delta");
    for slots in [100, 1_000, 10_000] {
        let mut scope = Scope::new(slots);
        let mut acceptor = scope.acceptor();
        group.bench_function(BenchmarkId::from_parameter(slots), |bencher| {
            bencher.iter_batched(
                || scope.change(),
                |update| apply(&mut acceptor, update),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// 60 nodes join a cluster of 1,000 at once, as in the burst of `scripts/bench scale`; and one node takes all in.
fn apply_joins(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply_joins");
    group.bench_function("60_beside_1000", |bencher| {
        bencher.iter_batched(
            || {
                let mut scope = Scope::new(1_000);
                (scope.acceptor(), scope.join(60))
            },
            |(mut acceptor, update)| (apply(&mut acceptor, update), acceptor),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("whole_of_1300", |bencher| {
        bencher.iter_batched(
            || {
                let mut scope = Scope::new(1_300);
                (scope.empty_acceptor(), scope.whole())
            },
            |(mut acceptor, update)| (apply(&mut acceptor, update), acceptor),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, apply_delta, apply_joins);
criterion_main!(benches);
