//! Exported snapshots and audit logs, verified with no network.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{code, error, rapctl};

/// The golden export and its Product Root, as files.
fn golden(directory: &Path) -> (PathBuf, Vec<u8>) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/contract/tests/vectors/export-valid.json");
    let vector: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let bytes = hex::decode(vector["input"].as_str().unwrap()).unwrap();
    std::fs::write(directory.join("root.pub"), vector["known"]["product_root"].as_str().unwrap()).unwrap();
    let export = directory.join("node.export");
    std::fs::write(&export, &bytes).unwrap();
    (export, bytes)
}

#[test]
fn verify_prints_the_chain_and_any_altered_byte_exits_7_with_a_code() {
    let directory = tempfile::tempdir().unwrap();
    let (export, bytes) = golden(directory.path());
    let arguments = ["verify", "node.export", "--root", "root.pub"];
    let valid = rapctl(directory.path(), &arguments);
    assert_eq!(code(&valid), 0, "{}", error(&valid));
    let text = String::from_utf8(valid.stdout).unwrap();
    for link in [
        "product root",
        "activation manifest",
        "authority records",
        "cluster head",
        "inclusion proof",
        "node",
    ] {
        assert!(text.contains(link), "{link} missing in {text}");
    }
    // Every byte of the file is altered once; the exhaustive single-bit run is rap-contract's.
    for index in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[index] ^= 1 << (index % 8);
        std::fs::write(&export, &altered).unwrap();
        let refused = rapctl(directory.path(), &arguments);
        assert_eq!(code(&refused), 7, "byte {index}: {}", error(&refused));
        assert!(error(&refused).starts_with("error["), "byte {index}: {}", error(&refused));
        assert!(refused.stdout.is_empty(), "byte {index}");
    }
}

#[test]
fn verify_json_names_its_schema() {
    let directory = tempfile::tempdir().unwrap();
    golden(directory.path());
    let output = rapctl(directory.path(), &["verify", "node.export", "--root", "root.pub", "-o", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "rap.verify.v1");
    assert_eq!(document["verified"], true);
    assert_eq!(document["head"]["version"], 7);
}

#[test]
fn another_root_an_absent_file_and_no_file_at_all_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    golden(directory.path());
    let init = rapctl(directory.path(), &["root", "init", "--out", "other", "--no-passphrase"]);
    assert_eq!(code(&init), 0, "{}", error(&init));
    let other = rapctl(directory.path(), &["verify", "node.export", "--root", "other.pub"]);
    assert_eq!((code(&other), error(&other).contains("error[key.unknown]")), (7, true));
    let absent = rapctl(directory.path(), &["verify", "nothing.export", "--root", "root.pub"]);
    assert_eq!((code(&absent), error(&absent).contains("error[resource.not_found]")), (3, true));
    let usage = rapctl(directory.path(), &["verify"]);
    assert_eq!(code(&usage), 2);
}

/// Writes the vector of an audit export as `audit.export`, with its root as `root.pub`, and gives its bytes.
fn audit_export(directory: &Path) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../proto/contract/tests/vectors/audit-export-valid.json");
    let vector: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let bytes = hex::decode(vector["input"].as_str().unwrap()).unwrap();
    let root = vector["known"]["product_root"].as_str().unwrap();
    std::fs::write(directory.join("root.pub"), root).unwrap();
    std::fs::write(directory.join("audit.export"), &bytes).unwrap();
    bytes
}

#[test]
fn an_audit_export_verifies_offline_and_any_altered_byte_exits_7_with_a_code() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = audit_export(directory.path());
    let file = directory.path().join("audit.export");
    let arguments = ["audit", "verify", "--file", "audit.export", "--root-key", "root.pub", "-o", "json"];
    let valid = rapctl(directory.path(), &arguments);
    assert_eq!(code(&valid), 0, "{}", error(&valid));
    let answer: Value = serde_json::from_slice(&valid.stdout).unwrap();
    assert_eq!((&answer["schema"], &answer["size"]), (&"rap.audit-verify.v1".into(), &5.into()));

    // rap-contract flips every bit; here every sixteenth byte goes through the program.
    for index in (0..bytes.len()).step_by(16) {
        let mut altered = bytes.clone();
        altered[index] ^= 1 << (index % 8);
        std::fs::write(&file, &altered).unwrap();
        let refused = rapctl(directory.path(), &arguments);
        assert_eq!(code(&refused), 7, "byte {index}: {}", error(&refused));
        let document: Value = serde_json::from_str(&error(&refused)).unwrap();
        let said = document["error"]["code"].as_str().or(document["code"].as_str()).unwrap_or_default();
        assert!(said.contains('.'), "byte {index}: {}", error(&refused));
    }
    let other = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
    std::fs::write(directory.path().join("root.pub"), other).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    let refused = rapctl(directory.path(), &arguments);
    assert_eq!(code(&refused), 7, "{}", error(&refused));
    assert!(error(&refused).contains("key.unknown"), "{}", error(&refused));
    let without = rapctl(directory.path(), &["audit", "verify", "--file", "audit.export"]);
    assert_eq!(code(&without), 2);
}

/// An export is compared with what any context has seen of the same log.
#[test]
fn an_audit_export_that_was_cut_back_or_altered_since_it_was_seen_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    audit_export(directory.path());
    let verify = ["audit", "verify", "--file", "audit.export", "--root-key", "root.pub", "-o", "json"];
    let asked = |more: &[&str]| rapctl(directory.path(), &[&verify[..], more].concat());
    let answer: Value = serde_json::from_slice(&asked(&[]).stdout).unwrap();
    let newest = answer["generations"].as_array().unwrap().last().unwrap()["generation"].clone();
    let folder = directory.path().join("rap");
    std::fs::create_dir_all(&folder).unwrap();
    let seen = |size: u64, root: &Value| {
        let seen = serde_json::json!({
            "schema": "rap.audit-seen.v1", "installation_id": answer["installation_id"],
            "installation_authority": "00", "generation": newest, "size": size, "root": root,
        });
        std::fs::write(folder.join("audit-prod.json"), seen.to_string()).unwrap();
    };
    let (size, root) = (answer["size"].as_u64().unwrap(), answer["root"].clone());
    seen(size, &root);
    assert_eq!(code(&asked(&[])), 0, "as it was seen");
    seen(size + 1, &root);
    let refused = asked(&[]);
    assert_eq!(code(&refused), 7, "{}", error(&refused));
    assert!(
        error(&refused).contains("audit.rollback") && error(&refused).contains("--older"),
        "{}",
        error(&refused)
    );
    assert_eq!(code(&asked(&["--older"])), 0, "made earlier");
    seen(size, &"11".repeat(32).into());
    let refused = asked(&["--older"]);
    assert_eq!(code(&refused), 7, "{}", error(&refused));
    assert!(error(&refused).contains("audit.inconsistent"), "{}", error(&refused));
}
