//! Attacks on role grants and the set over them.

use rap_contract::*;
use rap_types::Wall;
use rap_wire::v1;

use super::{Vector, reshaped, vector, with_header};
use crate::fixture::*;

pub fn all() -> Vec<Vector> {
    let mut vectors = grants();
    vectors.extend(sets());
    vectors.extend(sets_with_documents());
    vectors
}

fn grants() -> Vec<Vector> {
    let one = |attack: &str, bytes, outcome| vector("role-grant", attack, bytes, outcome);
    let authority = installation_authority();
    let valid = sign(&grant(), &[&authority]);
    let header = |change: fn(&mut v1::Header)| {
        with_header(&grant(), &[&authority], |document, header| document.header = Some(header), change)
    };
    let altered = |change: fn(&mut v1::RoleGrant)| {
        let mut grant = grant();
        change(&mut grant);
        reshaped(&valid, |envelope| envelope.payload = prost::Message::encode_to_vec(&grant))
    };
    let signed = |change: fn(&mut v1::RoleGrant)| {
        let mut grant = grant();
        change(&mut grant);
        sign(&grant, &[&authority])
    };
    let by = |signer: &Signer| {
        with_header(
            &grant(),
            &[signer],
            |document, header| document.header = Some(header),
            |header| header.issuer_key_id = signer.id().to_vec(),
        )
    };
    vec![
        one("valid", valid.clone(), "ok"),
        one("valid-revocation", sign(&revocation(), &[&authority]), "ok"),
        one("altered-key", altered(|g| g.subject_key = signer(9).public().to_vec()), "signature.invalid"),
        one("altered-name", altered(|g| g.subject_name = "eve".into()), "signature.invalid"),
        one("altered-role", altered(|g| g.platform_role = "platform_owner".into()), "signature.invalid"),
        one("altered-revoked", altered(|g| g.revoked = true), "signature.invalid"),
        one("altered-revokes", altered(|g| g.revokes_digest = vec![9; 32]), "signature.invalid"),
        one(
            "altered-end",
            altered(|g| g.header.as_mut().unwrap().expires_at_ms += HOUR),
            "signature.invalid",
        ),
        one("signed-by-the-product-root", by(&root()), "key.unknown"),
        one("signed-by-its-subject", by(&owner()), "key.unknown"),
        one("signed-twice", sign(&grant(), &[&authority, &authority]), "signature.missing"),
        one("of-another-installation", header(|h| h.installation_id = vec![9; 16]), "header.installation"),
        one("of-cluster-scope", header(|h| h.cluster_id = vec![9; 16]), "header.cluster"),
        one(
            "for-a-cluster",
            header(|h| {
                h.audience =
                    Some(v1::Audience { kind: v1::audience::Kind::Cluster.into(), value: cluster().to_vec() })
            }),
            "header.audience",
        ),
        one("of-no-set", header(|h| h.sequence = 0), "payload.malformed"),
        one("ended", valid.clone(), "header.expired").at(Wall(NOW.0 + HOUR)),
        one("from-the-future", valid.clone(), "clock.skew").at(Wall(NOW.0 - 10 * HOUR)),
        one("dev-to-strict", header(|h| h.critical = vec!["dev".into()]), "authority.dev_refused"),
        one("unknown-role", signed(|g| g.platform_role = "platform_god".into()), "payload.malformed"),
        one("without-name", signed(|g| g.subject_name = String::new()), "payload.malformed"),
        one("name-with-control-character", signed(|g| g.subject_name = "a\u{7}".into()), "payload.malformed"),
        one("weak-key", signed(|g| g.subject_key = vec![0; 32]), "key.invalid"),
        one("revocation-of-nothing", signed(|g| g.revoked = true), "payload.malformed"),
        one("grant-that-revokes", signed(|g| g.revokes_digest = vec![9; 32]), "payload.malformed"),
        one(
            "revocation-that-ends",
            signed(|g| {
                g.revoked = true;
                g.revokes_digest = vec![9; 32];
            }),
            "payload.malformed",
        ),
        one("set-in-place-of-grant", sign(&grant_set(), &[&authority]), "envelope.type"),
        one(
            "signed-in-the-domain-of-sets",
            reshaped(&sign(&grant_set(), &[&authority]), |envelope| {
                envelope.payload_type = v1::RoleGrant::PAYLOAD_TYPE.into();
            }),
            "signature.invalid",
        ),
        one(
            "without-header",
            sign(&v1::RoleGrant { header: None, ..grant() }, &[&authority]),
            "header.malformed",
        ),
    ]
}

fn sets() -> Vec<Vector> {
    let one = |attack: &str, bytes, outcome| vector("role-grant-set", attack, bytes, outcome);
    let authority = installation_authority();
    let valid = sign(&grant_set(), &[&authority]);
    let header = |change: fn(&mut v1::Header)| {
        with_header(&grant_set(), &[&authority], |document, header| document.header = Some(header), change)
    };
    let altered = |change: fn(&mut v1::RoleGrantSet)| {
        let mut set = grant_set();
        change(&mut set);
        reshaped(&valid, |envelope| envelope.payload = prost::Message::encode_to_vec(&set))
    };
    let signed = |change: fn(&mut v1::RoleGrantSet)| {
        let mut set = grant_set();
        change(&mut set);
        sign(&set, &[&authority])
    };
    let by = |signer: &Signer| {
        with_header(
            &grant_set(),
            &[signer],
            |document, header| document.header = Some(header),
            |header| header.issuer_key_id = signer.id().to_vec(),
        )
    };
    vec![
        one("valid", valid.clone(), "ok"),
        one("valid-first", sign(&first_grant_set(), &[&authority]), "ok"),
        one("altered-sequence", altered(|s| s.header.as_mut().unwrap().sequence = 3), "signature.invalid"),
        one("altered-end", altered(|s| s.header.as_mut().unwrap().expires_at_ms += 1), "signature.invalid"),
        one("altered-member", altered(|s| s.grant_digests[0] = vec![0; 32]), "signature.invalid"),
        one("altered-previous", altered(|s| s.previous_set_digest = vec![9; 32]), "signature.invalid"),
        one("with-a-member-more", altered(|s| s.grant_digests.push(vec![0xff; 32])), "signature.invalid"),
        one("with-a-member-less", altered(|s| drop(s.grant_digests.pop())), "signature.invalid"),
        one("signed-by-an-owner", by(&owner()), "key.unknown"),
        one("of-another-installation", header(|h| h.installation_id = vec![9; 16]), "header.installation"),
        one("of-cluster-scope", header(|h| h.cluster_id = vec![9; 16]), "header.cluster"),
        one("ended", valid.clone(), "header.expired").at(Wall(NOW.0 + 24 * HOUR)),
        one("dev-to-strict", header(|h| h.critical = vec!["dev".into()]), "authority.dev_refused"),
        one("of-sequence-zero", header(|h| h.sequence = 0), "payload.malformed"),
        one("first-with-a-previous", header(|h| h.sequence = 1), "payload.malformed"),
        one("second-without-a-previous", signed(|s| s.previous_set_digest.clear()), "payload.malformed"),
        one("that-never-ends", header(|h| h.expires_at_ms = 0), "payload.malformed"),
        one("that-lives-too-long", header(|h| h.expires_at_ms += 1), "payload.malformed"),
        one("empty", signed(|s| s.grant_digests.clear()), "payload.malformed"),
        one("unsorted", signed(|s| s.grant_digests.reverse()), "payload.malformed"),
        one(
            "with-a-member-twice",
            signed(|s| {
                let first = s.grant_digests[0].clone();
                s.grant_digests.insert(0, first);
            }),
            "payload.malformed",
        ),
        one("with-a-short-member", signed(|s| s.grant_digests[0].truncate(31)), "payload.malformed"),
        one("grant-in-place-of-set", sign(&grant(), &[&authority]), "envelope.type"),
        one(
            "signed-in-the-domain-of-grants",
            reshaped(&sign(&grant(), &[&authority]), |envelope| {
                envelope.payload_type = v1::RoleGrantSet::PAYLOAD_TYPE.into();
            }),
            "signature.invalid",
        ),
    ]
}

/// Whether a set and the documents beside it hold together; records = documents.
fn sets_with_documents() -> Vec<Vector> {
    let authority = installation_authority();
    let one = |attack: &str, set: &v1::RoleGrantSet, documents: Vec<Vec<u8>>, outcome| {
        let mut vector = vector("role-grants", attack, sign(set, &[&authority]), outcome);
        vector.records = documents;
        vector
    };
    let all = grant_documents();
    let [owner, grant, taken_back, revocation]: [Vec<u8>; 4] = all.clone().try_into().unwrap();
    let of = |documents: &[&Vec<u8>]| {
        let mut digests: Vec<Vec<u8>> =
            documents.iter().map(|bytes| document_digest(bytes).to_vec()).collect();
        digests.sort();
        v1::RoleGrantSet { grant_digests: digests, ..grant_set() }
    };
    vec![
        one("valid", &grant_set(), all.clone(), "ok"),
        one(
            "without-the-row-that-was-taken-back",
            &grant_set(),
            vec![owner.clone(), grant.clone(), revocation.clone()],
            "ok",
        ),
        one(
            "with-a-grant-the-set-does-not-name",
            &of(&[&owner]),
            vec![owner.clone(), grant.clone()],
            "row.tampered",
        ),
        one(
            "with-a-grant-nobody-signed",
            &of(&[&owner]),
            vec![owner.clone(), reshaped(&grant, |envelope| envelope.payload.push(0))],
            "row.tampered",
        ),
        one("with-a-document-missing", &grant_set(), vec![owner.clone(), grant.clone()], "chain.broken"),
        one(
            "that-keeps-what-it-takes-back",
            &of(&[&owner, &taken_back, &revocation]),
            all.clone(),
            "chain.broken",
        ),
        one(
            "older-than-its-grant",
            &v1::RoleGrantSet { grant_digests: of(&[&owner, &grant]).grant_digests, ..first_grant_set() },
            vec![owner, grant],
            "chain.broken",
        ),
    ]
}
