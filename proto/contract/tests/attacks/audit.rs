//! Attacks on the audit log: entries, proofs, checkpoints, log keys, exports.

use prost::Message as _;
use rap_contract::*;
use rap_types::{ClusterId, Digest, InstallationId};
use rap_wire::v1;

use super::{Vector, reshaped, vector, with_header};
use crate::fixture::*;

pub fn all() -> Vec<Vector> {
    let mut vectors = entries();
    vectors.extend(inclusion());
    vectors.extend(consistency());
    vectors.extend(checkpoints());
    vectors.extend(log_keys());
    vectors.extend(exports());
    vectors
}

fn entries() -> Vec<Vector> {
    let valid = audit_entries()[0].clone();
    let mut long = valid.clone();
    long.push(0);
    let mut other_tag = valid.clone();
    other_tag[9] = b'2';
    let mut length = valid.clone();
    length[29 + 3] = 15;
    let mut text = valid.clone();
    let at = text.windows(3).position(|window| window == b"ann").unwrap();
    text[at] = 0xff;
    let one = |name, input, outcome| vector("audit-entry", name, input, outcome);
    vec![
        one("valid", valid.clone(), "ok"),
        one("minimal", audit_entries()[2].clone(), "ok"),
        one("truncated", valid[..valid.len() - 1].to_vec(), "audit.malformed"),
        one("extended", long, "audit.malformed"),
        one("wrong-domain", other_tag, "audit.malformed"),
        one("short-cluster", length, "audit.malformed"),
        one("not-utf-8", text, "audit.malformed"),
        one("empty", vec![], "audit.malformed"),
    ]
}

fn numbers(first: u64, second: u64) -> Vec<u8> {
    [first.to_be_bytes(), second.to_be_bytes()].concat()
}

/// Input: entry. Records: root, index and size, path.
fn inclusion_of(
    name: &str,
    entry: Vec<u8>,
    at: (u64, u64),
    path: Vec<Digest>,
    outcome: &'static str,
) -> Vector {
    let root = audit_tree().root(5).unwrap();
    let mut made = vector("audit-inclusion", name, entry, outcome);
    made.records = vec![root.to_vec(), numbers(at.0, at.1)];
    made.records.extend(path.iter().map(|hash| hash.to_vec()));
    made
}

fn inclusion() -> Vec<Vector> {
    let (entries, tree) = (audit_entries(), audit_tree());
    let path = |index| tree.inclusion(index, 5).unwrap();
    let swapped = path(1).into_iter().rev().collect();
    let longer = [path(1), vec![Digest::of(&[])]].concat();
    vec![
        inclusion_of("valid", entries[1].clone(), (1, 5), path(1), "ok"),
        inclusion_of("valid-last", entries[4].clone(), (4, 5), path(4), "ok"),
        inclusion_of("other-entry", entries[0].clone(), (1, 5), path(1), "audit.proof"),
        inclusion_of("other-place", entries[1].clone(), (0, 5), path(1), "audit.proof"),
        inclusion_of("other-size", entries[1].clone(), (1, 4), path(1), "audit.proof"),
        inclusion_of("outside", entries[1].clone(), (5, 5), path(1), "audit.proof"),
        inclusion_of("short", entries[1].clone(), (1, 5), path(1)[1..].to_vec(), "audit.proof"),
        inclusion_of("long", entries[1].clone(), (1, 5), longer, "audit.proof"),
        inclusion_of("reversed", entries[1].clone(), (1, 5), swapped, "audit.proof"),
    ]
}

/// Input: old and new size. Records: old root, new root, proof.
fn consistency_of(
    name: &str,
    old: (u64, Digest),
    new: (u64, Digest),
    proof: &[Digest],
    outcome: &'static str,
) -> Vector {
    let mut made = vector("audit-consistency", name, numbers(old.0, new.0), outcome);
    made.records = vec![old.1.to_vec(), new.1.to_vec()];
    made.records.extend(proof.iter().map(|hash| hash.to_vec()));
    made
}

fn consistency() -> Vec<Vector> {
    let tree = audit_tree();
    let at = |size| (size, tree.root(size).unwrap());
    let proof = |old, new| tree.consistency(old, new).unwrap();
    let other = Digest::of(&[b"another history"]);
    vec![
        consistency_of("valid", at(3), at(5), &proof(3, 5), "ok"),
        consistency_of("valid-power-of-two", at(4), at(5), &proof(4, 5), "ok"),
        consistency_of("valid-from-nothing", at(0), at(5), &[], "ok"),
        consistency_of("valid-same", at(5), at(5), &[], "ok"),
        consistency_of("fork-at-one-size", (5, other), at(5), &[], "audit.inconsistent"),
        consistency_of("rewritten-before", (3, other), at(5), &proof(3, 5), "audit.proof"),
        consistency_of("rewritten-after", at(3), (5, other), &proof(3, 5), "audit.proof"),
        consistency_of("backwards", at(5), at(3), &proof(3, 5), "audit.proof"),
        consistency_of("short", at(3), at(5), &proof(3, 5)[1..], "audit.proof"),
        consistency_of("long", at(4), at(5), &[proof(4, 5), vec![other]].concat(), "audit.proof"),
        consistency_of("without-proof", at(3), at(5), &[], "audit.proof"),
        consistency_of("empty-with-proof", at(0), at(5), &proof(4, 5), "audit.proof"),
        consistency_of("empty-with-root", (0, other), at(5), &[], "audit.proof"),
    ]
}

/// Input: note. Records: log key records.
fn checkpoint_of(name: &str, note: Vec<u8>, records: Vec<Vec<u8>>, outcome: &'static str) -> Vector {
    let mut made = vector("audit-checkpoint", name, note, outcome);
    made.records = records;
    made
}

fn edited(note: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(note.to_vec()).unwrap();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1).into_bytes()
}

fn checkpoints() -> Vec<Vector> {
    let checkpoint = audit_checkpoint();
    let note = checkpoint.sign(installation(), &log_key());
    let records = || vec![log_record()];
    let both = || vec![log_record(), second_log_record()];
    let one = |name, note, outcome| checkpoint_of(name, note, records(), outcome);
    let elsewhere = InstallationId::from_bytes([9; 16]);
    let text = String::from_utf8(note.clone()).unwrap();
    let (body, signature) = text.split_once("\n\n").unwrap();
    let twice = format!("{body}\n\n{signature}{signature}").into_bytes();
    let extended = edited(&note, "\n\n", "\nextension\n\n");
    let second = Checkpoint { generation: 2, ..checkpoint };
    vec![
        one("valid", note.clone(), "ok"),
        one("altered-size", edited(&note, "\n5\n", "\n6\n"), "signature.invalid"),
        one("altered-root", edited(&note, "\n5\n", "\n5\nAA"), "signature.invalid"),
        one("size-with-zero", edited(&note, "\n5\n", "\n05\n"), "signature.invalid"),
        one("wrong-installation", checkpoint.sign(elsewhere, &log_key()), "audit.checkpoint"),
        one("by-a-stranger", checkpoint.sign(installation(), &signer(9)), "audit.checkpoint"),
        one(
            "by-the-installation-authority",
            checkpoint.sign(installation(), &installation_authority()),
            "audit.checkpoint",
        ),
        one("of-the-next-generation", second.sign(installation(), &log_key()), "audit.checkpoint"),
        one("signed-twice", twice, "audit.malformed"),
        one("extension-line", extended, "signature.invalid"),
        one("without-signature", format!("{body}\n\n").into_bytes(), "audit.malformed"),
        one("without-blank-line", format!("{body}\n{signature}").into_bytes(), "audit.malformed"),
        one("truncated", note[..note.len() - 1].to_vec(), "audit.malformed"),
        one("empty", vec![], "audit.malformed"),
        checkpoint_of("second-generation", second.sign(installation(), &second_log_key()), both(), "ok"),
        checkpoint_of("replayed-generation", note.clone(), both(), "audit.checkpoint"),
        checkpoint_of("without-key-record", note, vec![], "chain.broken"),
    ]
}

/// Records: log key records.
fn log_key_of(name: &str, records: Vec<Vec<u8>>, outcome: &'static str) -> Vector {
    let mut made = vector("log-key", name, vec![], outcome);
    made.records = records;
    made
}

fn log_keys() -> Vec<Vector> {
    let decoded = |bytes: &[u8]| {
        let envelope = v1::SignedEnvelope::decode(bytes).unwrap();
        v1::LogKeyRecord::decode(envelope.payload.as_slice()).unwrap()
    };
    let first = decoded(&log_record());
    let second = decoded(&second_log_record());
    let signers = [&installation_authority(), &log_key()];
    let with = |change: &dyn Fn(&mut v1::Header)| {
        with_header(&first, &signers, |record, header| record.header = Some(header), change)
    };
    let altered = |change: &dyn Fn(&mut v1::LogKeyRecord)| {
        reshaped(&log_record(), |envelope| {
            let mut record = first.clone();
            change(&mut record);
            envelope.payload = record.encode_to_vec();
        })
    };
    let one = |name, record, outcome| log_key_of(name, vec![record], outcome);
    let elsewhere = InstallationId::from_bytes([9; 16]);
    let mut returns = second.clone();
    returns.log_key = log_key().public().to_vec();
    let wrong_previous = v1::LogKeyRecord { previous_record_digest: vec![0; 32], ..second.clone() };
    let second_signers = [&installation_authority(), &second_log_key()];
    let short_root = v1::LogKeyRecord { first_root: vec![0; 31], ..first.clone() };
    vec![
        one("valid", log_record(), "ok"),
        log_key_of("two-generations", vec![log_record(), second_log_record()], "ok"),
        one(
            "altered-key",
            altered(&|record| record.log_key = signer(9).public().to_vec()),
            "signature.invalid",
        ),
        one("altered-first-size", altered(&|record| record.first_size += 1), "signature.invalid"),
        one("altered-first-root", altered(&|record| record.first_root = vec![1; 32]), "signature.invalid"),
        one("altered-reason", altered(&|record| record.reason = "x".into()), "signature.invalid"),
        one(
            "altered-previous",
            altered(&|record| record.previous_record_digest = vec![1; 32]),
            "signature.invalid",
        ),
        one("short-root", sign(&short_root, &signers), "payload.malformed"),
        one(
            "wrong-installation",
            with(&|header| header.installation_id = elsewhere.to_vec()),
            "header.installation",
        ),
        one("wrong-cluster", with(&|header| header.cluster_id = cluster().to_vec()), "header.cluster"),
        one(
            "wrong-audience",
            with(&|header| {
                let value = ClusterId::ZERO.to_vec();
                header.audience = Some(v1::Audience { kind: v1::audience::Kind::Cluster.into(), value });
            }),
            "header.audience",
        ),
        one("dev-to-strict", with(&|header| header.critical = vec!["dev".into()]), "authority.dev_refused"),
        one("without-its-own-signature", sign(&first, &[&installation_authority()]), "signature.missing"),
        one("by-a-stranger", sign(&first, &[&signer(9), &log_key()]), "key.unknown"),
        one(
            "wrong-domain",
            reshaped(&log_record(), |envelope| {
                envelope.payload_type = v1::AuthorityRecord::PAYLOAD_TYPE.into();
            }),
            "envelope.type",
        ),
        one("second-first", second_log_record(), "chain.broken"),
        log_key_of("replayed", vec![log_record(), log_record()], "chain.broken"),
        log_key_of("returning-key", vec![log_record(), sign(&returns, &signers)], "chain.broken"),
        log_key_of(
            "wrong-previous",
            vec![log_record(), sign(&wrong_previous, &second_signers)],
            "chain.broken",
        ),
        log_key_of("empty", vec![], "chain.broken"),
    ]
}

fn exports() -> Vec<Vector> {
    let valid = audit_export_message();
    let changed = |change: &dyn Fn(&mut v1::AuditExport)| {
        let mut export = valid.clone();
        change(&mut export);
        export.encode_to_vec()
    };
    let one = |name, input, outcome| vector("audit-export", name, input, outcome);
    let unknown = [valid.encode_to_vec(), vec![0x2a, 0x00]].concat();
    vec![
        one("valid", valid.encode_to_vec(), "ok"),
        one("entry-removed", changed(&|export| drop(export.entries.remove(1))), "audit.malformed"),
        one("entries-swapped", changed(&|export| export.entries.swap(0, 1)), "audit.proof"),
        one(
            "entry-altered",
            changed(&|export| export.entries[3] = audit_entries()[0].clone()),
            "audit.proof",
        ),
        one("entry-malformed", changed(&|export| export.entries[0].truncate(40)), "audit.malformed"),
        one(
            "entry-added",
            changed(&|export| export.entries.push(audit_entries()[0].clone())),
            "audit.malformed",
        ),
        one("without-checkpoint", changed(&|export| export.checkpoints.clear()), "audit.malformed"),
        one("checkpoints-unsorted", changed(&|export| export.checkpoints.reverse()), "audit.malformed"),
        one("without-key-record", changed(&|export| export.log_key_records.clear()), "chain.broken"),
        one(
            "of-another-root",
            changed(&|export| {
                export.activation_manifest = sign(&activation_manifest(), &[&signer(9)]);
            }),
            "key.unknown",
        ),
        one("unknown-field", unknown, "audit.malformed"),
        one("empty", vec![], "signature.missing"),
    ]
}
