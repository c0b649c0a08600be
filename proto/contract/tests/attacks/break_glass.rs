//! Attacks on break-glass grants.

use rap_contract::*;
use rap_types::Wall;
use rap_wire::v1;
use v1::break_glass_grant::Permit;

use super::{Vector, reshaped, vector, with_header};
use crate::fixture::*;

/// The text of a grant, with the pinned manifest beside it.
fn of(attack: &str, grant: Vec<u8>, roots: &[Signer], outcome: &'static str) -> Vector {
    let keys = roots.iter().map(Signer::public).collect();
    let text = BreakGlassText::new(grant, keys).text();
    let mut vector = vector("break-glass", attack, text.into_bytes(), outcome);
    vector.records = vec![manifest_envelope(), node().to_vec()];
    vector
}

pub fn all() -> Vec<Vector> {
    let by_authority = |attack: &str, grant: Vec<u8>, outcome| of(attack, grant, &[], outcome);
    let header = |change: fn(&mut v1::Header)| {
        with_header(&extension(), &[&authority()], |grant, header| grant.header = Some(header), change)
    };
    let signed = |change: fn(&mut v1::BreakGlassGrant)| {
        let mut grant = extension();
        change(&mut grant);
        sign(&grant, &[&authority()])
    };
    let altered = |change: fn(&mut v1::BreakGlassGrant)| {
        let mut grant = extension();
        change(&mut grant);
        reshaped(&sign(&extension(), &[&authority()]), |envelope| {
            envelope.payload = prost::Message::encode_to_vec(&grant);
        })
    };
    let peer = |change: fn(&mut v1::PeerRecord)| {
        let mut grant = peer_permit();
        let Some(Permit::PermitPeer(permit)) = &mut grant.permit else { unreachable!() };
        change(permit.peer.as_mut().unwrap());
        sign(&grant, &[&root()])
    };
    let permit_of_root = || sign(&peer_permit(), &[&root()]);
    let raw = |attack: &str, text: Vec<u8>, outcome| {
        let mut vector = vector("break-glass", attack, text, outcome);
        vector.records = vec![manifest_envelope(), node().to_vec()];
        vector
    };
    let text = BreakGlassText::new(sign(&extension(), &[&authority()]), vec![]).text();
    let mut elsewhere = of("root-of-another-manifest", permit_of_root(), &[root()], "key.unknown");
    elsewhere.records[0] = sign(&activation_manifest(), &[&signer(9)]);
    let mut vectors = vec![
        by_authority("valid", sign(&extension(), &[&authority()]), "ok"),
        of("valid-of-the-product-root", permit_of_root(), &[root()], "ok"),
        by_authority("signed-by-a-stranger", sign(&extension(), &[&signer(9)]), "key.unknown"),
        by_authority(
            "signed-by-the-previous-authority",
            sign(&extension(), &[&first_authority()]),
            "key.unknown",
        ),
        by_authority("of-the-root-without-its-key", permit_of_root(), "key.unknown"),
        of("of-a-root-of-its-own", sign(&peer_permit(), &[&signer(9)]), &[signer(9)], "key.unknown"),
        of(
            "of-the-root-and-a-stranger",
            sign(&peer_permit(), &[&root(), &signer(9)]),
            &[root(), signer(9)],
            "signature.missing",
        ),
        of(
            "of-the-authority-under-the-roots-key",
            sign(&extension(), &[&authority()]),
            &[root()],
            "key.unknown",
        ),
        elsewhere,
        by_authority(
            "altered-until",
            altered(|g| g.permit = Some(Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: NOW.0 + 1 }))),
            "signature.invalid",
        ),
        by_authority("altered-nonce", altered(|g| g.nonce = vec![0; 32]), "signature.invalid"),
        by_authority("altered-reason", altered(|g| g.reason = "none".into()), "signature.invalid"),
        by_authority("altered-permit", altered(|g| g.permit = peer_permit().permit), "signature.invalid"),
        by_authority(
            "altered-header",
            altered(|g| g.header.as_mut().unwrap().expires_at_ms += 1),
            "signature.invalid",
        ),
        by_authority(
            "wrong-domain",
            reshaped(&sign(&extension(), &[&authority()]), |e| {
                e.payload_type = v1::JoinToken::PAYLOAD_TYPE.into()
            }),
            "envelope.type",
        ),
        by_authority("head-in-place-of-grant", sign(&head(), &[&authority()]), "envelope.type"),
        by_authority(
            "wrong-installation",
            header(|h| h.installation_id = vec![9; 16]),
            "header.installation",
        ),
        by_authority("wrong-cluster", header(|h| h.cluster_id = vec![9; 16]), "header.cluster"),
        by_authority(
            "for-another-node",
            header(|h| {
                h.audience
                    .as_mut()
                    .unwrap()
                    .clone_from(&v1::Audience { kind: v1::audience::Kind::Node.into(), value: vec![9; 16] })
            }),
            "header.audience",
        ),
        by_authority(
            "for-anybody",
            header(|h| {
                h.audience = Some(v1::Audience { kind: v1::audience::Kind::Any.into(), value: vec![] })
            }),
            "header.audience",
        ),
        by_authority("expired", sign(&extension(), &[&authority()]), "header.expired").at(Wall(NOW.0 + HOUR)),
        by_authority("from-the-future", sign(&extension(), &[&authority()]), "clock.skew")
            .at(Wall(NOW.0 - 10 * HOUR)),
        by_authority("never-expires", header(|h| h.expires_at_ms = 0), "header.malformed"),
        by_authority("lives-24-hours", header(|h| h.expires_at_ms = h.issued_at_ms + 24 * HOUR), "ok"),
        by_authority(
            "lives-longer-than-24-hours",
            header(|h| h.expires_at_ms = h.issued_at_ms + 24 * HOUR + 1),
            "break_glass.lifetime",
        ),
        by_authority(
            "extends-beyond-itself",
            signed(|g| {
                g.permit = Some(Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: NOW.0 + HOUR + 1 }))
            }),
            "break_glass.lifetime",
        ),
        by_authority("permits-nothing-known", signed(|g| g.permit = None), "payload.malformed"),
        by_authority("short-nonce", signed(|g| g.nonce = vec![1; 31]), "payload.malformed"),
        by_authority("without-reason", signed(|g| g.reason.clear()), "payload.malformed"),
        by_authority(
            "reason-moves-the-cursor",
            signed(|g| g.reason = "\u{1b}[2J".into()),
            "payload.malformed",
        ),
        by_authority("dev-to-strict", header(|h| h.critical = vec!["dev".into()]), "authority.dev_refused"),
        by_authority(
            "unknown-critical-feature",
            header(|h| h.critical = vec!["quantum".into()]),
            "header.critical",
        ),
        of("peer-without-keys", peer(|p| p.wireguard_public_key.clear()), &[root()], "payload.malformed"),
        of(
            "peer-address-is-a-prefix",
            peer(|p| p.overlay_ipv4 = "100.96.0.0/16".into()),
            &[root()],
            "payload.malformed",
        ),
        raw("other-prefix", text.replacen("rapb1", "rapj1", 1).into_bytes(), "break_glass.malformed"),
        raw("padded-base64", format!("{text}=").into_bytes(), "break_glass.malformed"),
        raw("valid-with-newline", format!("{text}\n").into_bytes(), "ok"),
        raw("empty", vec![], "break_glass.malformed"),
    ];
    vectors.push(of("weak-root-key", permit_of_root(), &[], "key.invalid"));
    let weak = v1::BreakGlassFile { grant: permit_of_root(), root_keys: vec![vec![0; 32]] };
    let encoded = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        prost::Message::encode_to_vec(&weak),
    );
    vectors.last_mut().unwrap().input = format!("rapb1.{encoded}").into_bytes();
    vectors
}
