//! What signing and verifying one cluster head costs.

mod signed_head;

use criterion::{Criterion, criterion_group, criterion_main};
use rap_contract::{Expectation, HeadFacts, KeySet, Signer, sign};
use rap_wire::v1;
use signed_head::{CLUSTER, INSTALLATION, ISSUED_AT, head};

fn heads(criterion: &mut Criterion) {
    let authority = Signer::from_seed(&[7; 32]);
    let head = head(authority.id());
    criterion.bench_function("sign_head", |bencher| bencher.iter(|| sign(&head, &[&authority])));

    let envelope = sign(&head, &[&authority]);
    let keys = KeySet::of::<v1::ClusterHead>(authority.public());
    let expect = Expectation {
        installation: Some(INSTALLATION),
        cluster: Some(CLUSTER),
        now: Some(ISSUED_AT),
        ..Expectation::default()
    };
    criterion.bench_function("verify_head", |bencher| {
        bencher.iter(|| HeadFacts::open(&envelope, &keys, &expect).expect("a valid head"));
    });
}

criterion_group!(benches, heads);
criterion_main!(benches);
