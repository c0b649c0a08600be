//! What a refusal says besides its code: the file, the other option, the way on.

use crate::{code, error, rapctl};

#[test]
fn a_missing_contexts_file_and_an_unknown_context_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = rapctl(directory.path(), &["--config", "none/contexts.toml", "status"]);
    assert_eq!(code(&missing), 4);
    assert!(error(&missing).contains("there is no contexts file none/contexts.toml"), "{}", error(&missing));
    std::fs::create_dir(directory.path().join("rap")).unwrap();
    contexts(directory.path(), "");
    let none = rapctl(directory.path(), &["status"]);
    assert_eq!(code(&none), 4);
    assert!(error(&none).contains("no context is chosen in") && error(&none).contains("rap/contexts.toml"));
    let unknown = rapctl(directory.path(), &["--context", "other", "status"]);
    assert_eq!(code(&unknown), 3);
    assert!(error(&unknown).contains("no context `other` in"), "{}", error(&unknown));
}

#[test]
fn a_node_is_not_asked_about_itself() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["ping", "web", "web"][..], &["path", "explain", "web", "web"]] {
        let refused = rapctl(directory.path(), arguments);
        assert_eq!(code(&refused), 2, "{}", error(&refused));
        assert!(error(&refused).contains("`web` is both ends: name two nodes"), "{}", error(&refused));
    }
}

#[test]
fn an_option_that_adds_or_removes_one_role_or_tag_names_the_one_that_replaces_all() {
    let directory = tempfile::tempdir().unwrap();
    for (wrong, right) in [
        ("--add-role", "--role"),
        ("--remove-role", "--role"),
        ("--roles", "--role"),
        ("--add-tag", "--tags"),
        ("--remove-tag", "--tags"),
    ] {
        let refused = rapctl(directory.path(), &["node", "update", "web", wrong, "relay-node"]);
        let said = error(&refused);
        assert_eq!(code(&refused), 2, "{said}");
        let unexpected = said.contains(&format!("unexpected argument '{wrong}"));
        assert!(unexpected && said.contains(&format!("{right} replaces all")), "{said}");
        assert!(!said.contains("--clear"), "{said}");
    }
}

#[test]
fn a_deadline_of_this_side_says_how_to_wait_longer() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("rap")).unwrap();
    // Connections wait in its queue: nobody accepts them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, pin, id) =
        (silent.local_addr().unwrap(), "0".repeat(64), "01a22f9c-9e71-7fad-b89c-06e129af5aef");
    contexts(
        directory.path(),
        &format!(
            "current = \"here\"\n[contexts.here]\nurl = \"https://{address}\"\n\
             tls_ca_pin = \"{pin}\"\ninstallation_id = \"{id}\"\n\
             session = {{ secret = \"x\", expires_at_ms = 9000000000000 }}\n"
        ),
    );
    let late = rapctl(directory.path(), &["--timeout", "300ms", "node", "list"]);
    let said = error(&late);
    assert_eq!(code(&late), 10, "{said}");
    assert!(
        said.contains("wait longer with: --timeout 30s") && said.contains("a change is not made twice"),
        "{said}"
    );
}

fn contexts(directory: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = directory.join("rap/contexts.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}
