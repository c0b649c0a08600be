//! What signing and verifying one cluster head costs.

use criterion::{Criterion, criterion_group, criterion_main};
use rap_contract::{Audience, Expectation, HeadFacts, HeaderTerms, KeySet, Signer, sign};
use rap_types::{ClusterId, InstallationId, KeyId, Wall};
use rap_wire::v1;

const INSTALLATION: InstallationId = InstallationId::from_bytes([1; 16]);
const CLUSTER: ClusterId = ClusterId::from_bytes([2; 16]);
const ISSUED_AT: Wall = Wall(1_800_000_000_000);

fn head(issuer: KeyId) -> v1::ClusterHead {
    let header = HeaderTerms {
        installation: INSTALLATION,
        cluster: CLUSTER,
        audience: Audience::Cluster(CLUSTER),
        issuer,
        incarnation: 1,
        sequence: 9,
        issued_at: ISSUED_AT,
        expires_at: None,
        critical: Vec::new(),
    };
    v1::ClusterHead {
        header: Some(header.to_wire()),
        incarnation: 1,
        version: 9,
        refresh: 0,
        tree_size: 1 << 14,
        root: vec![3; 32],
        previous_head: vec![4; 32],
        fresh_until_ms: ISSUED_AT.0 + 300_000,
        reconnect_window_ms: 5_000,
    }
}

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
