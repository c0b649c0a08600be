//! Attacks on path installs.

use rap_contract::*;
use rap_wire::v1;

use super::{Vector, reshaped, vector};
use crate::fixture::*;

/// An install with the leaf beside it.
fn of(attack: &str, install: Vec<u8>, outcome: &'static str) -> Vector {
    beside(attack, install, leaf(node(), LeafStanding::Good), outcome)
}

fn beside(attack: &str, install: Vec<u8>, leaf: Vec<u8>, outcome: &'static str) -> Vector {
    let mut vector = vector("path-install", attack, install, outcome);
    vector.records = vec![leaf, peer().to_vec()];
    vector
}

pub fn all() -> Vec<Vector> {
    let valid = || signed_install(&install(), &leaf_key());
    let signed = |change: fn(&mut v1::PathInstall)| {
        let mut install = install();
        change(&mut install);
        signed_install(&install, &leaf_key())
    };
    let altered = |change: fn(&mut v1::PathInstall)| {
        let mut install = install();
        change(&mut install);
        reshaped(&valid(), |envelope| envelope.payload = prost::Message::encode_to_vec(&install))
    };
    let header = |change: fn(&mut v1::Header)| {
        let mut install = install();
        change(install.header.as_mut().unwrap());
        signed_install(&install, &leaf_key())
    };
    let shaped = |change: fn(&mut v1::SignedEnvelope)| reshaped(&valid(), change);
    let last_hop = |install: &mut v1::PathInstall| {
        (install.position, install.length) = (2, 2);
        install.destination = peer().to_vec();
        install.previous = bystander().to_vec();
        install.next.clear();
        (install.out_label, install.back_in_label) = (0, 0);
    };
    vec![
        of("valid", valid(), "ok"),
        of("valid-at-the-destination", signed(last_hop), "ok"),
        of("altered-path-id", altered(|i| i.path_id[0] ^= 1), "signature.invalid"),
        of("altered-generation", altered(|i| i.generation += 1), "signature.invalid"),
        of("altered-destination", altered(|i| i.destination = node().to_vec()), "signature.invalid"),
        of("altered-previous", altered(|i| i.previous = bystander().to_vec()), "signature.invalid"),
        of("altered-next", altered(|i| i.next = node().to_vec()), "signature.invalid"),
        of("altered-in-label", altered(|i| i.in_label += 1), "signature.invalid"),
        of("altered-out-label", altered(|i| i.out_label += 1), "signature.invalid"),
        of("altered-back-labels", altered(|i| i.back_in_label = i.back_out_label), "signature.invalid"),
        of("altered-lifetime", altered(|i| i.lifetime_s = 600), "signature.invalid"),
        of(
            "altered-issued-at",
            altered(|i| i.header.as_mut().unwrap().issued_at_ms += 1),
            "signature.invalid",
        ),
        of(
            "wrong-domain",
            shaped(|e| e.payload_type = v1::ClusterHead::PAYLOAD_TYPE.into()),
            "envelope.type",
        ),
        of(
            "signed-in-the-domain-of-heads",
            shaped(|e| {
                let message = pre_authentication_encoding(v1::ClusterHead::PAYLOAD_TYPE, &e.payload);
                e.signatures[0].sig = leaf_key().sign(&message).to_vec();
            }),
            "signature.invalid",
        ),
        of("head-in-place-of-install", sign(&head(), &[&leaf_key()]), "envelope.type"),
        of("unsigned", shaped(|e| e.signatures.clear()), "signature.missing"),
        of("signed-twice", shaped(|e| e.signatures.push(e.signatures[0].clone())), "signature.missing"),
        of("signed-by-another-leaf", signed_install(&install(), &signer(9)), "key.unknown"),
        of("signed-by-the-cluster-authority", signed_install(&install(), &authority()), "key.unknown"),
        of("signed-by-the-node-key", signed_install(&install(), &node_key()), "key.unknown"),
        of("oversize", vec![0; 1025], "envelope.too_large"),
        of("truncated", valid()[..100].to_vec(), "envelope.malformed"),
        of("empty", vec![], "signature.missing"),
        beside(
            "leaf-of-another-node",
            valid(),
            leaf(bystander(), LeafStanding::Good),
            "certificate.identity",
        ),
        beside("leaf-of-a-revoked-node", valid(), leaf(node(), LeafStanding::Revoked), "node.revoked"),
        beside(
            "leaf-of-another-authority",
            valid(),
            leaf(node(), LeafStanding::Foreign),
            "certificate.invalid",
        ),
        beside("oversize-leaf", valid(), vec![0; LEAF_CAP + 1], "certificate.invalid"),
        beside("without-leaf", valid(), vec![], "certificate.invalid"),
        of(
            "for-another-hop",
            header(|h| h.audience.as_mut().unwrap().value = node().to_vec()),
            "header.audience",
        ),
        of(
            "for-anybody",
            header(|h| {
                h.audience = Some(v1::Audience { kind: v1::audience::Kind::Any.into(), value: vec![] });
            }),
            "header.audience",
        ),
        of("wrong-cluster", header(|h| h.cluster_id = vec![9; 16]), "header.cluster"),
        of("wrong-installation", header(|h| h.installation_id = vec![9; 16]), "header.installation"),
        of("issuer-is-not-the-signer", header(|h| h.issuer_key_id = vec![9; 32]), "header.issuer"),
        of("unknown-critical-feature", header(|h| h.critical = vec!["quantum".into()]), "header.critical"),
        of("expiring", header(|h| h.expires_at_ms = h.issued_at_ms + HOUR), "payload.malformed"),
        of("without-header", signed(|i| i.header = None), "header.malformed"),
        of("short-path-id", signed(|i| i.path_id.truncate(15)), "payload.malformed"),
        of("of-no-lane", signed(|i| i.lane = 0), "payload.malformed"),
        of("of-an-unknown-lane", signed(|i| i.lane = 9), "payload.malformed"),
        of("position-zero", signed(|i| i.position = 0), "payload.malformed"),
        of("five-hops", signed(|i| i.length = 5), "payload.malformed"),
        of("label-zero", signed(|i| i.in_label = 0), "payload.malformed"),
        of("back-label-zero", signed(|i| i.back_out_label = 0), "payload.malformed"),
        of("next-without-labels", signed(|i| (i.out_label, i.back_in_label) = (0, 0)), "payload.malformed"),
        of("labels-without-next", signed(|i| i.next.clear()), "payload.malformed"),
        of("short-organization", signed(|i| i.organization_id = vec![1; 15]), "payload.malformed"),
        of("lives-too-short", signed(|i| i.lifetime_s = 9), "path.lifetime"),
        of("lives-too-long", signed(|i| i.lifetime_s = 601), "path.lifetime"),
        of("of-a-udp-slot", signed(|i| i.kind = v1::PathKind::UdpSlot.into()), "path.kind"),
        of("of-no-kind", signed(|i| i.kind = 0), "path.kind"),
    ]
}
