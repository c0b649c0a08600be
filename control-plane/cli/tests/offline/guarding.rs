//! Private keys of operators: what guards them, and what is shown before one signs.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rap_contract::{Audience, HeaderTerms, Signer, sign};
use rap_types::{ClusterId, InstallationId, KeyId};
use rap_wire::v1;

use super::{code, error, rapctl};

/// A file with a passphrase, which its owner alone may read.
pub fn phrase(directory: &Path, name: &str, text: &str, mode: u32) {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_short_passphrase_guards_no_new_key_and_a_file_that_others_may_read_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let init = |file: &str| {
        rapctl(directory.path(), &["root", "init", "--out", "product-root", "--passphrase-file", file])
    };
    for (text, mode, expected) in [
        ("zq\n", 0o600, "error[request.invalid]"),
        ("eleven char\n", 0o600, "error[request.invalid]"),
        ("correct horse battery\n", 0o666, "error[secret.exposed]"),
        ("correct horse battery\n", 0o604, "error[secret.exposed]"),
    ] {
        phrase(directory.path(), "phrase", text, mode);
        let refused = init("phrase");
        assert_eq!((code(&refused), error(&refused).contains(expected)), (2, true), "{}", error(&refused));
        assert!(!error(&refused).contains(text.trim()), "{}", error(&refused));
        assert!(!directory.path().join("product-root.key").exists());
    }
    phrase(directory.path(), "phrase", "correct horse battery\n", 0o400);
    assert_eq!(code(&init("phrase")), 0);
}

fn request() -> (Vec<u8>, KeyId) {
    let authority = Signer::from_seed(&[5; 32]);
    let installation = InstallationId::from_bytes([1; 16]);
    let header = HeaderTerms {
        installation,
        cluster: ClusterId::ZERO,
        audience: Audience::Installation(installation),
        issuer: authority.id(),
        incarnation: 0,
        sequence: 1,
        issued_at: rap_runtime::Clock::new().now().wall,
        expires_at: None,
        critical: Vec::new(),
    };
    let request = v1::ActivationRequest {
        header: Some(header.to_wire()),
        installation_authority_key: authority.public().to_vec(),
        tls_ca_spki_sha256: vec![6; 32],
        nonce: vec![7; 32],
        control_urls: vec!["https://hq:8443".into()],
        dev: false,
    };
    (sign(&request, &[&authority]), authority.id())
}

#[test]
fn an_activation_is_signed_once_its_fingerprint_was_shown_and_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, authority) = request();
    std::fs::write(directory.path().join("act-x.req"), bytes).unwrap();
    rapctl(directory.path(), &["root", "init", "--out", "product-root", "--no-passphrase"]);
    let words = ["root", "sign-activation", "act-x.req", "--owner", "o@example.com", "--no-passphrase"];
    let answered = |answer: &str| -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rapctl"))
            .args(words)
            .current_dir(directory.path())
            .env("XDG_CONFIG_HOME", directory.path())
            .env_remove("RAPCTL_PASSPHRASE_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    for answer in ["", "n\n", "what\n"] {
        let refused = answered(answer);
        assert_eq!(code(&refused), 2, "{}", error(&refused));
        assert!(error(&refused).contains(&authority.to_string()), "{}", error(&refused));
        assert!(error(&refused).contains(&authority.words()) && error(&refused).contains("https://hq:8443"));
        for made in ["act-x.manifest", "act-x.owner.key"] {
            assert!(!directory.path().join(made).exists(), "{answer:?}: nothing was signed");
        }
    }
    let signed = answered("y\n");
    assert_eq!(code(&signed), 0, "{}", error(&signed));
    for made in ["act-x.manifest", "act-x.owner.key"] {
        std::fs::remove_file(directory.path().join(made)).unwrap();
    }
    let signed = rapctl(directory.path(), &[&words[..], &["--yes"]].concat());
    assert_eq!(code(&signed), 0, "{}", error(&signed));
    assert!(directory.path().join("act-x.manifest").exists());
}
