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

criterion_group!(benches, apply_delta);
criterion_main!(benches);
