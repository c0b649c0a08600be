//! Attacks on activation, authority records, tokens and contracts.

use rap_contract::*;
use rap_types::{Digest, Wall};
use rap_wire::v1;
use v1::authority_record::Kind;

use super::{Vector, reshaped, vector, with_header};
use crate::fixture::*;

pub fn all() -> Vec<Vector> {
    let mut vectors = activation();
    vectors.extend(authority_records());
    vectors.extend(tokens());
    vectors.extend(contracts());
    vectors
}

fn activation() -> Vec<Vector> {
    let request = |attack: &str, bytes, outcome| vector("activation-request", attack, bytes, outcome);
    let one = |attack: &str, bytes, outcome| vector("activation-manifest", attack, bytes, outcome);
    let header = |change: fn(&mut v1::Header)| {
        with_header(
            &activation_manifest(),
            &[&root()],
            |document, header| document.header = Some(header),
            change,
        )
    };
    let altered = |change: fn(&mut v1::ActivationManifest)| {
        let mut manifest = activation_manifest();
        change(&mut manifest);
        reshaped(&manifest_envelope(), |envelope| envelope.payload = prost::Message::encode_to_vec(&manifest))
    };
    vec![
        request("valid", sign(&activation_request(), &[&installation_authority()]), "ok"),
        request("signed-by-another-key", sign(&activation_request(), &[&signer(9)]), "key.unknown"),
        request(
            "names-a-weak-key",
            sign(
                &v1::ActivationRequest { installation_authority_key: vec![0; 32], ..activation_request() },
                &[&installation_authority()],
            ),
            "key.invalid",
        ),
        one("valid", manifest_envelope(), "ok"),
        one("signed-by-another-root", sign(&activation_manifest(), &[&signer(9)]), "key.unknown"),
        one("altered-owner-key", altered(|m| m.owner_key = signer(9).public().to_vec()), "signature.invalid"),
        one("altered-owner-name", altered(|m| m.owner_name = "eve@example.com".into()), "signature.invalid"),
        one("altered-tls-ca", altered(|m| m.tls_ca_spki_sha256 = vec![0; 32]), "signature.invalid"),
        one("altered-nonce", altered(|m| m.request_nonce = vec![0; 32]), "signature.invalid"),
        one(
            "altered-authority",
            altered(|m| m.installation_authority_key = signer(9).public().to_vec()),
            "signature.invalid",
        ),
        one("of-another-installation", header(|h| h.installation_id = vec![9; 16]), "header.installation"),
        one("of-cluster-scope", header(|h| h.cluster_id = vec![9; 16]), "header.cluster"),
        one("issuer-is-not-the-signer", header(|h| h.issuer_key_id = vec![9; 32]), "header.issuer"),
        one("never-ends", header(|h| h.expires_at_ms = i64::MAX), "header.malformed"),
        one("begins-after-its-end", header(|h| h.not_before_ms = h.expires_at_ms), "header.malformed"),
        one("begins-before-time", header(|h| h.not_before_ms = -1), "header.malformed"),
        one("expired", manifest_envelope(), "header.expired").at(Wall(NOW.0 + HOUR)),
        one("from-the-future", manifest_envelope(), "clock.skew").at(Wall(NOW.0 - 10 * HOUR)),
        one("unknown-critical-feature", header(|h| h.critical = vec!["quantum".into()]), "header.critical"),
        one("dev-to-strict", header(|h| h.critical = vec!["dev".into()]), "authority.dev_refused"),
        one("dev-to-dev", header(|h| h.critical = vec!["dev".into()]), "ok").knowing("dev"),
        one(
            "weak-owner-key",
            sign(&v1::ActivationManifest { owner_key: vec![0; 32], ..activation_manifest() }, &[&root()]),
            "key.invalid",
        ),
        one(
            "without-header",
            sign(&v1::ActivationManifest { header: None, ..activation_manifest() }, &[&root()]),
            "header.malformed",
        ),
    ]
}

fn authority_records() -> Vec<Vector> {
    let one = |attack: &str, records: Vec<Vec<u8>>, outcome| {
        let mut vector = vector("authority-records", attack, vec![], outcome);
        vector.records = records;
        vector
    };
    let [create, rotate]: [Vec<u8>; 2] = records().try_into().unwrap();
    let rotated = |change: fn(&mut v1::AuthorityRecord), signers: &[&Signer]| {
        let mut record = rotate_record();
        change(&mut record);
        sign(&record, signers)
    };
    let both: &[&Signer] = &[&first_authority(), &authority()];
    vec![
        one("valid", records(), "ok"),
        one("create-only", vec![create.clone()], "ok"),
        one("empty", vec![], "chain.broken"),
        one("rotate-first", vec![rotate.clone()], "key.unknown"),
        one("create-twice", vec![create.clone(), create.clone()], "chain.broken"),
        one("replayed-rotation", vec![create.clone(), rotate.clone(), rotate.clone()], "key.unknown"),
        one(
            "gap-in-sequence",
            vec![create.clone(), rotated(|r| r.header.as_mut().unwrap().sequence = 3, both)],
            "chain.broken",
        ),
        one(
            "wrong-previous",
            vec![create.clone(), rotated(|r| r.previous_record_digest = vec![0; 32], both)],
            "chain.broken",
        ),
        one(
            "without-new-key-signature",
            vec![create.clone(), rotated(|_| (), &both[..1])],
            "signature.missing",
        ),
        one(
            "recovery-by-the-cluster-key",
            vec![create.clone(), rotated(|r| r.kind = v1::authority_record::Kind::Recovery.into(), both)],
            "chain.broken",
        ),
        one(
            "incarnation-does-not-rise",
            vec![create.clone(), rotated(|r| r.header.as_mut().unwrap().authority_incarnation = 1, both)],
            "chain.broken",
        ),
        one("replaced-key-returns", [records(), vec![returning()]].concat(), "chain.broken"),
        one(
            "rotation-by-a-replaced-key",
            [records(), vec![third(&first_authority(), &signer(7), Kind::Rotate, 3)]].concat(),
            "key.unknown",
        ),
        one(
            "rotated-to-the-installation-authority",
            [records(), vec![third(&authority(), &installation_authority(), Kind::Rotate, 3)]].concat(),
            "chain.broken",
        ),
        one(
            "recovered",
            [records(), vec![third(&installation_authority(), &signer(7), Kind::Recovery, 3)]].concat(),
            "ok",
        ),
        one(
            "recovery-of-another-incarnation",
            [records(), vec![third(&installation_authority(), &signer(7), Kind::Recovery, 2)]].concat(),
            "chain.broken",
        ),
        one(
            "of-another-cluster",
            vec![create.clone(), rotated(|r| r.header.as_mut().unwrap().cluster_id = vec![9; 16], both)],
            "header.cluster",
        ),
        one(
            "one-key-signs-twice",
            vec![sign(&create_record(), &[&installation_authority(); 2])],
            "signature.missing",
        ),
    ]
}

/// A third record by `issuer` that names `next`.
fn third(issuer: &Signer, next: &Signer, kind: Kind, incarnation: u64) -> Vec<u8> {
    let before = pre_authentication_encoding(
        v1::AuthorityRecord::PAYLOAD_TYPE,
        &prost::Message::encode_to_vec(&rotate_record()),
    );
    let record = v1::AuthorityRecord {
        header: Some(HeaderTerms { expires_at: None, sequence: 3, incarnation, ..header(issuer) }.to_wire()),
        kind: kind.into(),
        authority_key: next.public().to_vec(),
        previous_record_digest: Digest::of(&[&before]).to_vec(),
    };
    sign(&record, &[issuer, next])
}

/// A rotation back to the first key.
fn returning() -> Vec<u8> {
    third(&authority(), &first_authority(), Kind::Rotate, 3)
}

fn tokens() -> Vec<Vector> {
    let one = |attack: &str, text: String, outcome| vector("join-token", attack, text.into_bytes(), outcome);
    let text = |envelope: Vec<u8>, secret| JoinTokenText::new(envelope, secret).text().to_string();
    let valid = sign(&token(), &[&authority()]);
    let widened = |change: fn(&mut v1::JoinToken)| {
        let mut token = token();
        change(&mut token);
        reshaped(&valid, |envelope| envelope.payload = prost::Message::encode_to_vec(&token))
    };
    let header = |change: fn(&mut v1::Header)| {
        with_header(&token(), &[&authority()], |document, header| document.header = Some(header), change)
    };
    let plain = text(valid.clone(), SECRET);
    vec![
        one("valid", plain.clone(), "ok"),
        one("valid-with-newline", format!("{plain}\n"), "ok"),
        one("widened-roles", text(widened(|t| t.roles.push("core".into())), SECRET), "signature.invalid"),
        one("widened-uses", text(widened(|t| t.max_uses = 1000), SECRET), "signature.invalid"),
        one("widened-approval", text(widened(|t| t.approval = "auto".into()), SECRET), "signature.invalid"),
        one("altered-url", text(widened(|t| t.control_urls[0].push('0')), SECRET), "signature.invalid"),
        one("altered-pin", text(widened(|t| t.server_trust_pin = vec![0; 32]), SECRET), "signature.invalid"),
        one(
            "authority-swapped-for-the-attackers",
            text(widened(|t| t.cluster_authority_key = signer(9).public().to_vec()), SECRET),
            "key.unknown",
        ),
        one("wrong-secret", text(valid.clone(), [0; 32]), "token.secret"),
        one("wrong-cluster", text(header(|h| h.cluster_id = vec![9; 16]), SECRET), "header.cluster"),
        one(
            "wrong-installation",
            text(header(|h| h.installation_id = vec![9; 16]), SECRET),
            "header.installation",
        ),
        one("expired", plain.clone(), "token.expired").at(Wall(NOW.0 + HOUR)),
        one("never-expires", text(header(|h| h.expires_at_ms = 0), SECRET), "header.malformed"),
        one("from-the-future", plain.clone(), "clock.skew").at(Wall(NOW.0 - 10 * HOUR)),
        one(
            "not-yet-valid",
            text(header(|h| h.not_before_ms = NOW.0 + 61_000), SECRET),
            "header.not_yet_valid",
        ),
        one("without-secret", plain.rsplit_once('.').unwrap().0.to_owned(), "token.malformed"),
        one("short-secret", plain[..plain.len() - 4].to_owned(), "token.malformed"),
        one("other-prefix", plain.replacen("rapj1", "rapj2", 1), "token.malformed"),
        one("padded-base64", format!("{plain}="), "token.malformed"),
        one("too-long", format!("{plain}{}", "A".repeat(17_000)), "token.malformed"),
        one("head-in-place-of-token", text(sign(&head(), &[&authority()]), SECRET), "envelope.type"),
    ]
}

fn contracts() -> Vec<Vector> {
    let one = |attack: &str, bytes, outcome| vector("bootstrap-contract", attack, bytes, outcome);
    let signed = |change: fn(&mut v1::BootstrapContract)| {
        let mut contract = contract();
        change(&mut contract);
        sign(&contract, &[&authority()])
    };
    let audience = |key: &Signer| {
        let header =
            HeaderTerms { audience: Audience::Key(key.id()), incarnation: 2, ..header(&authority()) };
        sign(&v1::BootstrapContract { header: Some(header.to_wire()), ..contract() }, &[&authority()])
    };
    vec![
        one("valid", signed(|_| ()), "ok"),
        one("of-another-request", signed(|c| c.request_id = vec![9; 16]), "contract.mismatch"),
        one("of-another-token", signed(|c| c.token_id = vec![9; 16]), "contract.mismatch"),
        one("replayed-nonce", signed(|c| c.nonce = vec![9; 32]), "contract.mismatch"),
        one("of-another-node-key", signed(|c| c.node_public_key = vec![9; 32]), "contract.mismatch"),
        one(
            "of-another-wireguard-key",
            signed(|c| c.wireguard_public_key = vec![9; 32]),
            "contract.mismatch",
        ),
        one("for-another-audience", audience(&signer(9)), "header.audience"),
        one("wrong-server-pin", signed(|c| c.server_trust_pin = vec![9; 32]), "pin.mismatch"),
        one(
            "signed-by-the-previous-authority",
            sign(
                &v1::BootstrapContract {
                    header: Some(
                        HeaderTerms {
                            audience: Audience::Key(node_key().id()),
                            ..header(&first_authority())
                        }
                        .to_wire(),
                    ),
                    ..contract()
                },
                &[&first_authority()],
            ),
            "key.unknown",
        ),
        one("with-half-the-chain", signed(|c| c.authority_records.truncate(1)), "authority.mismatch"),
        one("without-chain", signed(|c| c.authority_records.clear()), "chain.broken"),
        one("expired", signed(|_| ()), "header.expired").at(Wall(NOW.0 + HOUR)),
    ]
}
