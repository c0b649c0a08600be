//! Golden vectors: the committed files under `vectors/` are exactly what this builds, and each leads to
//! the outcome it names. `vectors/verify.py` checks the same files with an implementation of its own.
//!
//! `RAP_WRITE_VECTORS=1 cargo test -p rap-contract --test golden` writes them anew.

mod attacks;
mod fixture;

use std::collections::BTreeMap;
use std::path::PathBuf;

use attacks::Vector;
use fixture::*;
use rap_contract::*;
use rap_types::{ClusterId, Digest, NodeId, Wall};
use rap_wire::v1;
use serde_json::Value;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn committed() -> BTreeMap<String, String> {
    std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn committed_vectors_are_what_the_code_builds() {
    let built: BTreeMap<String, String> = attacks::all()
        .into_iter()
        .map(|vector| (vector.name.clone(), serde_json::to_string_pretty(&vector.document()).unwrap() + "\n"))
        .collect();
    if std::env::var_os("RAP_WRITE_VECTORS").is_some() {
        for name in committed().keys().filter(|name| !built.contains_key(*name)) {
            std::fs::remove_file(directory().join(format!("{name}.json"))).unwrap();
        }
        for (name, text) in &built {
            std::fs::write(directory().join(format!("{name}.json")), text).unwrap();
        }
    }
    let committed = committed();
    assert_eq!(committed.keys().collect::<Vec<_>>(), built.keys().collect::<Vec<_>>());
    for (name, text) in &built {
        assert_eq!(&committed[name], text, "{name}");
    }
}

#[test]
fn every_committed_vector_leads_to_its_outcome() {
    if std::env::var_os("RAP_WRITE_VECTORS").is_some() {
        return; // the files are being written at this moment
    }
    let committed = committed();
    assert!(committed.len() > 60, "only {} vectors", committed.len());
    let mut wrong = Vec::new();
    for (name, text) in committed {
        let vector: Value = serde_json::from_str(&text).unwrap();
        let (found, named) = (outcome(&vector), vector["outcome"].as_str().unwrap());
        if found != named {
            wrong.push(format!("{name}: {found}, not {named}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn names_are_unique() {
    let vectors: Vec<Vector> = attacks::all();
    let names: std::collections::BTreeSet<_> = vectors.iter().map(|vector| &vector.name).collect();
    assert_eq!(names.len(), vectors.len());
}

fn outcome(vector: &Value) -> &'static str {
    let input = hex::decode(vector["input"].as_str().unwrap()).unwrap();
    let features: Vec<&str> =
        vector["features"].as_array().unwrap().iter().map(|feature| feature.as_str().unwrap()).collect();
    let now = Wall(vector["now_ms"].as_i64().unwrap());
    let audience = [Audience::Cluster(cluster())];
    let scoped = Expectation {
        installation: Some(installation()),
        cluster: Some(cluster()),
        audience: &audience,
        now: Some(now),
        features: &features,
    };
    let platform = Expectation {
        installation: Some(installation()),
        cluster: Some(ClusterId::ZERO),
        audience: &[],
        now: Some(now),
        features: &features,
    };
    let installations = [Audience::Installation(installation())];
    let addressed = Expectation { audience: &installations, ..platform };
    let result = match vector["kind"].as_str().unwrap() {
        "public-key" => PublicKey::from_slice(&input).map(drop),
        "activation-request" => open_activation_request(&input, &platform).map(drop),
        "activation-manifest" => ActivationTerms::open(&input, &roots(), &platform).map(drop),
        "authority-records" => {
            let authority = installation_authority().public();
            AuthorityChain::verify(&records(vector), &authority, installation(), cluster(), &features)
                .map(drop)
        }
        "role-grant" => {
            RoleGrantTerms::open(&input, &installation_authority().public(), &addressed).map(drop)
        }
        "role-grant-set" => {
            RoleGrantSet::open(&input, &installation_authority().public(), &addressed).map(drop)
        }
        "role-grants" => {
            let authority = installation_authority().public();
            let documents = records(vector);
            match RoleGrants::verify(&input, &documents, &authority, installation(), &features) {
                Ok((_, terms)) if terms.contains(&None) => {
                    Err(Reject::new(rap_types::Reason::RowTampered, "platform_role_grants"))
                }
                outcome => outcome.map(drop),
            }
        }
        "revocations" => RevocationChain::verify(&records(vector), &authority_chain(), &features).map(drop),
        "join-token" => std::str::from_utf8(&input)
            .map_err(|_| Reject::new(rap_types::Reason::TokenMalformed, "text"))
            .and_then(JoinTokenText::parse)
            .and_then(|token| token.open(&scoped).map(drop)),
        "bootstrap-contract" => {
            let known = BootstrapExpectation { now, features: &features, ..contract_expectation() };
            open_bootstrap(&input, &known).map(drop)
        }
        "cluster-head" => {
            // The token key is pinned too, for another purpose: a valid key of the wrong kind is its own error.
            let keys = KeySet::of::<v1::ClusterHead>(authority().public())
                .with::<v1::JoinToken>(signer(7).public(), KeyState::Active)
                .with::<v1::ClusterHead>(signer(8).public(), KeyState::Revoked);
            HeadFacts::open(&input, &keys, &scoped).map(drop)
        }
        "audit-entry" => AuditEntry::decode(&input).map(drop),
        "audit-inclusion" => {
            let [root, at, path @ ..] = &records(vector)[..] else { panic!("records") };
            let (index, size) = numbers(at);
            let leaf = audit_leaf_hash(&input);
            check_audit_inclusion(leaf, index, size, &digests(path), &Digest::from_slice(root).unwrap())
        }
        "audit-consistency" => {
            let (old, new) = numbers(&input);
            let all = digests(&records(vector));
            check_audit_consistency((old, all[0]), (new, all[1]), &all[2..])
        }
        "log-key" => log_keys(vector, &features).map(drop),
        "audit-checkpoint" => {
            log_keys(vector, &features).and_then(|log| Checkpoint::open(&input, &log)).map(drop)
        }
        "audit-export" => open_audit_export(&input, &roots(), features.contains(&FEATURE_DEV)).map(drop),
        // The records are the activation manifest that the node has pinned, and its id.
        "break-glass" => {
            let manifest = hex::decode(vector["records"][0].as_str().unwrap()).unwrap();
            let known = BreakGlassExpectation {
                now: Some(now),
                features: &features,
                ..break_glass_expectation(&manifest)
            };
            std::str::from_utf8(&input)
                .map_err(|_| Reject::new(rap_types::Reason::BreakGlassMalformed, "text"))
                .and_then(BreakGlassText::parse)
                .and_then(|grant| grant.open(&known).map(drop))
        }
        // The records are the leaf beside the install, and the hop.
        "path-install" => {
            let [leaf, hop] = &records(vector)[..] else { panic!("records") };
            open_install(&input, leaf, NodeId::from_slice(hop).unwrap(), &features).map(drop)
        }
        "export" => open_export(&input, &roots(), features.contains(&FEATURE_DEV)).map(drop),
        kind => panic!("unknown kind {kind}"),
    };
    result.map_or_else(|reject| reject.reason.code(), |()| "ok")
}

fn records(vector: &Value) -> Vec<Vec<u8>> {
    let records = vector["records"].as_array().unwrap();
    records.iter().map(|record| hex::decode(record.as_str().unwrap()).unwrap()).collect()
}

fn digests(records: &[Vec<u8>]) -> Vec<Digest> {
    records.iter().map(|record| Digest::from_slice(record).unwrap()).collect()
}

fn numbers(bytes: &[u8]) -> (u64, u64) {
    let (first, second) = bytes.split_at(8);
    (u64::from_be_bytes(first.try_into().unwrap()), u64::from_be_bytes(second.try_into().unwrap()))
}

fn log_keys(vector: &Value, features: &[&str]) -> Result<LogKeyChain, Reject> {
    LogKeyChain::verify(&records(vector), &installation_authority().public(), installation(), features)
}
