//! Attacks on the envelope and the cluster head.

use rap_contract::*;
use rap_types::Wall;
use rap_wire::v1;

use super::{Vector, reshaped, vector, with_header};
use crate::fixture::*;

pub fn all() -> Vec<Vector> {
    let one = |attack: &str, bytes, outcome| vector("cluster-head", attack, bytes, outcome);
    let valid = sign(&head(), &[&authority()]);
    let header = |change: fn(&mut v1::Header)| {
        with_header(&head(), &[&authority()], |document, header| document.header = Some(header), change)
    };
    let signed = |change: fn(&mut v1::ClusterHead)| {
        let mut head = head();
        change(&mut head);
        sign(&head, &[&authority()])
    };
    let altered = |change: fn(&mut v1::ClusterHead)| {
        let mut head = head();
        change(&mut head);
        reshaped(&valid, |envelope| envelope.payload = prost::Message::encode_to_vec(&head))
    };
    let shaped = |change: fn(&mut v1::SignedEnvelope)| reshaped(&valid, change);
    vec![
        one("valid", valid.clone(), "ok"),
        one("altered-incarnation", altered(|h| h.incarnation += 1), "signature.invalid"),
        one("altered-version", altered(|h| h.version += 1), "signature.invalid"),
        one("altered-refresh", altered(|h| h.refresh += 1), "signature.invalid"),
        one("altered-tree-size", altered(|h| h.tree_size *= 2), "signature.invalid"),
        one("altered-root", altered(|h| h.root = vec![0; 32]), "signature.invalid"),
        one("altered-previous", altered(|h| h.previous_head.clear()), "signature.invalid"),
        one("altered-fresh-until", altered(|h| h.fresh_until_ms += 1), "signature.invalid"),
        one(
            "altered-issued-at",
            altered(|h| h.header.as_mut().unwrap().issued_at_ms += 1),
            "signature.invalid",
        ),
        one("wrong-domain", shaped(|e| e.payload_type = v1::JoinToken::PAYLOAD_TYPE.into()), "envelope.type"),
        one(
            "signature-of-another-domain",
            shaped(|e| {
                let message = pre_authentication_encoding(v1::JoinToken::PAYLOAD_TYPE, &e.payload);
                e.signatures[0].sig = authority().sign(&message).to_vec();
            }),
            "signature.invalid",
        ),
        one(
            "signature-without-domain",
            shaped(|e| e.signatures[0].sig = authority().sign(&e.payload).to_vec()),
            "signature.invalid",
        ),
        one("unsigned", shaped(|e| e.signatures.clear()), "signature.missing"),
        one(
            "nine-signatures",
            shaped(|e| e.signatures = vec![e.signatures[0].clone(); 9]),
            "signature.missing",
        ),
        one("signed-twice-by-one-key", sign(&head(), &[&authority(), &authority()]), "signature.missing"),
        one("second-signature-by-a-stranger", sign(&head(), &[&authority(), &signer(9)]), "key.unknown"),
        one("signed-by-a-stranger", sign(&head(), &[&signer(9)]), "key.unknown"),
        one("signed-by-a-key-of-another-purpose", sign(&head(), &[&signer(7)]), "key.purpose"),
        one("signed-by-a-revoked-key", sign(&head(), &[&signer(8)]), "key.state"),
        one("malleated-signature", shaped(|e| malleate(&mut e.signatures[0].sig)), "signature.invalid"),
        one("short-signature", shaped(|e| e.signatures[0].sig.truncate(63)), "envelope.malformed"),
        one("unknown-envelope-field", [valid.clone(), vec![0x22, 0x00]].concat(), "envelope.malformed"),
        one("truncated", valid[..valid.len() - 1].to_vec(), "envelope.malformed"),
        one("oversize", vec![0; 4 * 1024 + 1], "envelope.too_large"),
        one("empty", vec![], "signature.missing"),
        one("wrong-installation", header(|h| h.installation_id = vec![9; 16]), "header.installation"),
        one("wrong-cluster", header(|h| h.cluster_id = vec![9; 16]), "header.cluster"),
        one(
            "wrong-audience",
            header(|h| h.audience.as_mut().unwrap().value = vec![9; 16]),
            "header.audience",
        ),
        one("unknown-audience-kind", header(|h| h.audience.as_mut().unwrap().kind = 99), "header.malformed"),
        one("short-cluster-id", header(|h| h.cluster_id = vec![9; 15]), "header.malformed"),
        one("without-header", signed(|h| h.header = None), "header.malformed"),
        one("issued-beyond-tolerance", header(|h| h.issued_at_ms = NOW.0 + 60_001), "clock.skew"),
        one("issued-at-tolerance", header(|h| h.issued_at_ms = NOW.0 + 60_000), "ok"),
        one("stale-but-accepted", valid.clone(), "ok").at(Wall(NOW.0 + 100 * HOUR)),
        one("unknown-critical-feature", header(|h| h.critical = vec!["quantum".into()]), "header.critical"),
        one("dev-to-strict", header(|h| h.critical = vec!["dev".into()]), "authority.dev_refused"),
        one("tree-size-not-a-power-of-two", signed(|h| h.tree_size = 3), "payload.malformed"),
        one("tree-size-above-cap", signed(|h| h.tree_size = 1 << 25), "payload.malformed"),
        one("sequence-is-not-version", signed(|h| h.version = 8), "payload.malformed"),
        one("fresh-until-before-issued", signed(|h| h.fresh_until_ms = 1), "payload.malformed"),
        one("expiring", header(|h| h.expires_at_ms = NOW.0 + HOUR), "payload.malformed"),
    ]
}

/// Adds the group order to S: the classic second signature of the same message.
fn malleate(signature: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
}
