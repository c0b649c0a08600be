//! Attacks on the chain of revocations.

use rap_contract::*;
use rap_wire::v1;
use v1::revocation::Kind;

use super::{Vector, reshaped, vector};
use crate::fixture::*;

pub fn all() -> Vec<Vector> {
    let one = |attack: &str, records: Vec<Vec<u8>>, outcome| {
        let mut vector = vector("revocations", attack, vec![], outcome);
        vector.records = records;
        vector
    };
    let valid = revocations();
    let upto = |length: usize| valid[..length].to_vec();
    let with = |length: usize, record: Vec<u8>| [upto(length), vec![record]].concat();
    let signed = |record: &v1::Revocation| sign(record, &[&authority()]);
    // The ban of the last record, changed before it is signed.
    let ban = |change: fn(&mut v1::Revocation)| {
        let mut record = node_revocation(Kind::Banned, node(), 0x32, 3, &valid[..4]);
        change(&mut record);
        with(4, signed(&record))
    };
    // The same, changed after it was signed.
    let altered = |change: fn(&mut v1::Revocation)| {
        let mut record = node_revocation(Kind::Banned, node(), 0x32, 3, &valid[..4]);
        change(&mut record);
        let envelope = reshaped(&valid[4], |envelope| {
            envelope.payload = prost::Message::encode_to_vec(&record);
        });
        with(4, envelope)
    };
    let header = |record: &mut v1::Revocation, change: fn(&mut v1::Header)| {
        if let Some(header) = record.header.as_mut() {
            change(header);
        }
    };
    let after = |kind, node, key, generation| node_revocation(kind, node, key, generation, &valid);
    let mut by_first = node_revocation(Kind::Evicted, node(), 0x32, 3, &valid[..4]);
    let old = HeaderTerms {
        expires_at: None,
        sequence: 5,
        incarnation: 1,
        ..crate::fixture::header(&first_authority())
    };
    by_first.header = Some(old.to_wire());
    let readmit = |key: u8, generation, next: u8| v1::Revocation {
        successor_key_sha256: vec![next; 32],
        ..after(Kind::Readmitted, peer(), key, generation)
    };
    let mut in_old_incarnation = node_revocation(Kind::Banned, node(), 0x32, 3, &valid[..4]);
    header(&mut in_old_incarnation, |header| header.authority_incarnation = 1);
    vec![
        one("valid", valid.clone(), "ok"),
        one("empty", vec![], "ok"),
        one("beginning", upto(3), "ok"),
        one("altered-kind", altered(|r| r.kind = Kind::Evicted.into()), "signature.invalid"),
        one("altered-node", altered(|r| r.node_id = vec![9; 16]), "signature.invalid"),
        one("altered-key", altered(|r| r.node_key_sha256 = vec![9; 32]), "signature.invalid"),
        one("altered-generation", altered(|r| r.key_generation += 1), "signature.invalid"),
        one("altered-successor", altered(|r| r.successor_key_sha256 = vec![9; 32]), "signature.invalid"),
        one("altered-reason", altered(|r| r.reason = "found".into()), "signature.invalid"),
        one("altered-previous", altered(|r| r.previous_digest = vec![9; 32]), "signature.invalid"),
        one(
            "wrong-domain",
            with(4, reshaped(&valid[4], |e| e.payload_type = v1::JoinToken::PAYLOAD_TYPE.into())),
            "envelope.type",
        ),
        one(
            "signed-by-a-stranger",
            with(4, sign(&node_revocation(Kind::Banned, node(), 0x32, 3, &valid[..4]), &[&signer(9)])),
            "key.unknown",
        ),
        one(
            "signed-by-the-replaced-authority-after-its-successor",
            with(4, sign(&by_first, &[&first_authority()])),
            "chain.broken",
        ),
        one(
            "in-an-incarnation-that-is-not-the-signers",
            with(4, signed(&in_old_incarnation)),
            "chain.broken",
        ),
        one(
            "of-another-cluster",
            ban(|r| r.header.as_mut().unwrap().cluster_id = vec![9; 16]),
            "header.cluster",
        ),
        one(
            "of-another-installation",
            ban(|r| r.header.as_mut().unwrap().installation_id = vec![9; 16]),
            "header.installation",
        ),
        one(
            "for-another-audience",
            ban(|r| r.header.as_mut().unwrap().audience.as_mut().unwrap().value = vec![9; 16]),
            "header.audience",
        ),
        one("without-header", ban(|r| r.header = None), "header.malformed"),
        one(
            "expiring",
            ban(|r| r.header.as_mut().unwrap().expires_at_ms = NOW.0 + HOUR),
            "payload.malformed",
        ),
        one(
            "dev-to-strict",
            ban(|r| r.header.as_mut().unwrap().critical = vec!["dev".into()]),
            "authority.dev_refused",
        ),
        one(
            "unknown-critical-feature",
            ban(|r| r.header.as_mut().unwrap().critical = vec!["quantum".into()]),
            "header.critical",
        ),
        one("replayed", [valid.clone(), vec![valid[4].clone()]].concat(), "chain.broken"),
        one("gap-in-sequence", ban(|r| r.header.as_mut().unwrap().sequence = 6), "chain.broken"),
        one("wrong-previous", ban(|r| r.previous_digest = vec![9; 32]), "chain.broken"),
        one("without-the-first", valid[1..].to_vec(), "chain.broken"),
        one(
            "two-records-exchanged",
            [upto(2), vec![valid[3].clone(), valid[2].clone()]].concat(),
            "chain.broken",
        ),
        one("without-kind", ban(|r| r.kind = 0), "payload.malformed"),
        one("generation-zero", ban(|r| r.key_generation = 0), "payload.malformed"),
        one("ban-with-a-successor", ban(|r| r.successor_key_sha256 = vec![9; 32]), "payload.malformed"),
        one("short-key", ban(|r| r.node_key_sha256 = vec![9; 31]), "payload.malformed"),
        one("long-reason", ban(|r| r.reason = "a".repeat(257)), "payload.malformed"),
        one("of-a-replaced-generation", ban(|r| r.key_generation = 2), "chain.broken"),
        one("of-another-key", ban(|r| r.node_key_sha256 = vec![9; 32]), "chain.broken"),
        one(
            "first-record-of-a-node-with-generation-two",
            with(5, signed(&after(Kind::Left, bystander(), 0x41, 2))),
            "chain.broken",
        ),
        one("banned-twice", with(5, signed(&after(Kind::Banned, node(), 0x32, 3))), "chain.broken"),
        one("left-twice", with(5, signed(&after(Kind::Left, peer(), 0x22, 1))), "chain.broken"),
        one("banned-after-it-left", with(5, signed(&after(Kind::Banned, peer(), 0x22, 1))), "ok"),
        one("readmitted-after-it-left", with(5, signed(&readmit(0x22, 1, 0x22))), "ok"),
        one("readmitted-with-a-rotated-away-key", with(5, signed(&readmit(0x22, 1, 0x31))), "chain.broken"),
        one("readmitted-with-a-banned-key", with(5, signed(&readmit(0x22, 1, 0x32))), "chain.broken"),
        one(
            "banned-node-readmitted",
            with(5, signed(&v1::Revocation { node_id: node().to_vec(), ..readmit(0x32, 3, 0x33) })),
            "chain.broken",
        ),
        one(
            "member-readmitted",
            with(5, signed(&v1::Revocation { node_id: bystander().to_vec(), ..readmit(0x41, 1, 0x42) })),
            "chain.broken",
        ),
        one(
            "key-rotated-to-itself",
            with(
                5,
                signed(&v1::Revocation {
                    kind: Kind::KeyRotated.into(),
                    node_id: bystander().to_vec(),
                    ..readmit(0x41, 1, 0x41)
                }),
            ),
            "chain.broken",
        ),
        one(
            "key-of-a-gone-node-rotated",
            with(5, signed(&v1::Revocation { kind: Kind::KeyRotated.into(), ..readmit(0x22, 1, 0x42) })),
            "chain.broken",
        ),
    ]
}
