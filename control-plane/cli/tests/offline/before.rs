//! What is looked at before anything is asked of a person or a control plane.

use std::process::Command;

use super::{code, error, rapctl};

#[test]
fn a_path_that_is_no_text_is_taken_and_shown_with_its_bytes_replaced() {
    use std::os::unix::ffi::OsStrExt as _;
    let directory = tempfile::tempdir().unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"ann\xff");
    for noun in ["key create", "root init", "authority key"] {
        for form in ["json", "table"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_rapctl"));
            command.args(noun.split(' ')).args(["--no-passphrase", "-o", form, "--out"]).arg(odd);
            let output = command.current_dir(directory.path().join(".")).output().unwrap();
            assert_eq!(code(&output), 0, "{noun} {form}: {}", error(&output));
            assert!(String::from_utf8_lossy(&output.stdout).contains("ann\u{fffd}"), "{noun} {form}");
            for file in std::fs::read_dir(directory.path()).unwrap() {
                std::fs::remove_file(file.unwrap().path()).unwrap();
            }
        }
    }
}

#[test]
fn a_login_to_what_is_no_control_url_or_without_its_key_is_refused_before_a_passphrase_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let context = |url: &str| {
        format!(
            "current = \"one\"\n[contexts.one]\nurl = \"{url}\"\ntls_ca_pin = \"{}\"\n\
             installation_id = \"01a22d06-ea7a-7ccd-81f4-a3e03222a321\"\nkey = \"gone.key\"\n",
            "ab".repeat(32)
        )
    };
    let contexts = directory.path().join("rap/contexts.toml");
    std::fs::create_dir(directory.path().join("rap")).unwrap();
    for (url, part) in [
        ("http://cp.example:8443", "https://cp.example:8443"),
        ("cp.example:8443", "did you mean https://cp.example:8443"),
        ("https://cp.example:8443", "carry it to this machine"),
    ] {
        std::fs::write(&contexts, context(url)).unwrap();
        std::fs::set_permissions(&contexts, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let refused = rapctl(directory.path(), &["login"]);
        assert!(code(&refused) != 0 && error(&refused).contains(part), "{url}: {}", error(&refused));
    }
    std::fs::set_permissions(&contexts, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let refused = rapctl(directory.path(), &["context", "list"]);
    assert_eq!(
        (code(&refused), error(&refused).contains("error[secret.exposed]")),
        (2, true),
        "{}",
        error(&refused)
    );
}

#[test]
fn an_act_whose_file_cannot_be_made_is_not_begun() {
    let directory = tempfile::tempdir().unwrap();
    // The folder is looked at before the session is: no control plane was asked.
    let grant = ["break-glass", "issue", "--reason", "x", "--extend", "1h", "--out", "no/such/folder/file"];
    let refused = rapctl(directory.path(), &grant);
    assert!(error(&refused).contains("no/such/folder/file"), "{}", error(&refused));
    let unasked = rapctl(
        directory.path(),
        &["break-glass", "issue", "--reason", "x", "--extend", "1h", "--out", "file"],
    );
    assert!(error(&unasked).contains("session.missing"), "{}", error(&unasked));
    assert!(!directory.path().join("file").exists(), "an act that did not happen leaves no file");
}
