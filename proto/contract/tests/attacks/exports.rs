//! Attacks on exported snapshots.

use prost::Message as _;
use rap_contract::*;
use rap_types::NodeId;
use rap_wire::v1;

use super::{Vector, vector};
use crate::fixture::*;

pub fn all() -> Vec<Vector> {
    let one = |attack: &str, bytes, outcome| vector("export", attack, bytes, outcome);
    let changed = |change: fn(&mut v1::SnapshotExport)| {
        let mut export = export_message(&head(), &parts());
        change(&mut export);
        export.encode_to_vec()
    };
    vec![
        one("valid", export(), "ok"),
        one("of-another-root", changed(|e| e.activation_manifest = other_root()), "key.unknown"),
        one("without-records", changed(|e| e.authority_records.clear()), "snapshot.malformed"),
        one("head-of-the-rotated-away-key", changed(|e| e.authority_records.truncate(1)), "key.unknown"),
        one("head-of-a-stranger", changed(|e| e.head = sign(&head(), &[&signer(9)])), "key.unknown"),
        one(
            "another-nodes-leaf",
            changed(|e| e.leaf.as_mut().unwrap().node_id = peer().to_vec()),
            "snapshot.proof",
        ),
        one("other-generation", changed(|e| e.leaf.as_mut().unwrap().node_generation = 6), "snapshot.proof"),
        one("other-salt", changed(|e| e.leaf.as_mut().unwrap().salt = vec![0; 32]), "snapshot.proof"),
        one("short-salt", changed(|e| e.leaf.as_mut().unwrap().salt = vec![0; 31]), "snapshot.malformed"),
        one("other-position", changed(|e| e.proof.as_mut().unwrap().position = 3), "snapshot.proof"),
        one(
            "position-outside-the-tree",
            changed(|e| e.proof.as_mut().unwrap().position = 6),
            "snapshot.proof",
        ),
        one("short-proof", changed(|e| drop(e.proof.as_mut().unwrap().hashes.pop())), "snapshot.proof"),
        one("long-proof", changed(|e| e.proof.as_mut().unwrap().hashes.push(vec![0; 32])), "snapshot.proof"),
        one("without-a-slot", changed(|e| drop(e.slots.pop())), "snapshot.proof"),
        one("slots-unsorted", changed(|e| e.slots.reverse()), "snapshot.manifest"),
        one("slot-twice", changed(|e| e.slots.push(e.slots[3].clone())), "snapshot.manifest"),
        one("chunk-missing", changed(|e| drop(e.chunks.pop())), "snapshot.chunk_missing"),
        one("chunk-altered", changed(|e| e.chunks[0].push(0)), "snapshot.malformed"),
        one("chunks-unsorted", changed(|e| e.chunks.reverse()), "snapshot.malformed"),
        one("unknown-field", [export(), vec![0x42, 0x00]].concat(), "snapshot.malformed"),
        one("empty", vec![], "signature.missing"),
        one(
            "signed-but-without-policy",
            rebuilt(|chunks| chunks.retain(|(slot, _)| slot != POLICY_SLOT)),
            "snapshot.semantic",
        ),
        one("signed-but-assignment-of-another", rebuilt(|own| assignment_of_another(own)), "snapshot.scope"),
        one("signed-but-peer-twice", rebuilt(peer_twice), "snapshot.semantic"),
        one("signed-but-own-peer", rebuilt(|own| own_peer(own)), "snapshot.semantic"),
        one(
            "signed-but-chunk-in-wrong-slot",
            rebuilt(|chunks| chunks[2].0 = "policy2".into()),
            "snapshot.chunk_invalid",
        ),
    ]
}

fn other_root() -> Vec<u8> {
    sign(&activation_manifest(), &[&signer(9)])
}

/// An export whose head properly covers altered contents.
fn rebuilt(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let mut chunks = chunks(node(), peer());
    change(&mut chunks);
    let parts = parts_of(chunks);
    let head = v1::ClusterHead { root: parts.root.to_vec(), ..head() };
    export_message(&head, &parts).encode_to_vec()
}

fn assignment_of_another(own: &mut [(String, Vec<u8>)]) {
    let id = NodeId::from_bytes([0x77; 16]);
    own[0] = chunks(id, peer()).swap_remove(0);
}

fn peer_twice(own: &mut Vec<(String, Vec<u8>)>) {
    let id = NodeId::from_bytes([0x77; 16]);
    own.push(chunks(node(), id).swap_remove(1));
}

fn own_peer(own: &mut [(String, Vec<u8>)]) {
    own[1] = chunks(node(), node()).swap_remove(1);
}
