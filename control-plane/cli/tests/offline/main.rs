//! The commands that need no network, run as an operator runs them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

mod before;
mod exports;
mod guarding;
mod hints;

fn rapctl(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rapctl"))
        .args(arguments)
        .current_dir(directory)
        .env("XDG_CONFIG_HOME", directory)
        .env_remove("RAPCTL_CONFIG")
        .env_remove("RAPCTL_CONTEXT")
        .env_remove("RAPCTL_CLUSTER")
        .env_remove("RAPCTL_PASSPHRASE_FILE")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn root_init_keeps_the_private_key_private_and_never_overwrites() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    guarding::phrase(directory.path(), "phrase", "correct horse\n", 0o600);
    let arguments = ["root", "init", "--out", "product-root", "--passphrase-file", "phrase"];
    let first = rapctl(directory.path(), &arguments);
    assert_eq!(code(&first), 0, "{}", error(&first));
    let key = directory.path().join("product-root.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    let second = rapctl(directory.path(), &arguments);
    assert_eq!((code(&second), error(&second).contains("error[resource.exists]")), (5, true));
    assert_eq!(std::fs::read(&key).unwrap(), before);
}

#[test]
fn an_operators_key_is_private_is_never_overwritten_and_its_public_half_is_a_file_to_hand_over() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let refused = rapctl(directory.path(), &["key", "create", "--out", "ann"]);
    assert_eq!((code(&refused), error(&refused).contains("error[secret.missing]")), (2, true));
    guarding::phrase(directory.path(), "phrase", "correct horse\n", 0o600);
    let arguments = ["key", "create", "--out", "ann", "--passphrase-file", "phrase", "-o", "json"];
    let first = rapctl(directory.path(), &arguments);
    assert_eq!(code(&first), 0, "{}", error(&first));
    let document: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(document["schema"], "rap.key-created.v1");
    let key = directory.path().join("ann.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let private: Value = serde_json::from_slice(&std::fs::read(&key).unwrap()).unwrap();
    assert_eq!(
        (&private["purpose"], &private["protection"]["kind"]),
        (&"operator".into(), &"passphrase".into())
    );
    let public: Value =
        serde_json::from_slice(&std::fs::read(directory.path().join("ann.pub")).unwrap()).unwrap();
    assert_eq!(public["keys"][0], private["public_key"]);
    let second = rapctl(directory.path(), &arguments);
    assert_eq!(code(&second), 5, "{}", error(&second));
    assert!(error(&second).contains("resource.exists"), "{}", error(&second));
}

#[test]
fn without_a_terminal_a_passphrase_must_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let refused = rapctl(directory.path(), &["root", "init", "--out", "product-root"]);
    assert_eq!((code(&refused), error(&refused).contains("error[secret.missing]")), (2, true));
    assert!(!directory.path().join("product-root.pub").exists());
}

#[test]
fn an_activation_request_that_is_not_one_is_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("act-x.req"), b"not a request").unwrap();
    rapctl(directory.path(), &["root", "init", "--out", "product-root", "--no-passphrase"]);
    let refused = rapctl(
        directory.path(),
        &["root", "sign-activation", "act-x.req", "--owner", "o@example.com", "--no-passphrase"],
    );
    assert_eq!(
        (code(&refused), error(&refused).contains("error[envelope.malformed]")),
        (7, true),
        "{}",
        error(&refused)
    );
    assert!(!directory.path().join("act-x.manifest").exists());
    assert!(!directory.path().join("act-x.owner.key").exists());
}

#[test]
fn every_reason_can_be_explained() {
    let directory = tempfile::tempdir().unwrap();
    let output = rapctl(directory.path(), &["explain", "-o", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["reasons"].as_array().unwrap().len(), rap_types::Reason::ALL.len());
    let unknown = rapctl(directory.path(), &["explain", "no.such"]);
    assert_eq!(code(&unknown), 3);
}

#[test]
fn commands_that_need_a_session_say_how_to_get_one() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["status"][..], &["cluster", "list"], &["ping", "a", "b"]] {
        let refused = rapctl(directory.path(), arguments);
        assert_eq!(
            (code(&refused), error(&refused).contains("rapctl login")),
            (4, true),
            "{}",
            error(&refused)
        );
    }
}

#[test]
fn errors_are_one_json_document_for_programs() {
    let directory = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["-o", "json", "explain", "no.such"], 3, "resource.not_found"),
        (&["status", "--output", "json"], 4, "session.missing"),
        (&["verify", "absent", "--root", "absent", "-ojson"], 3, "resource.not_found"),
        (&["-o", "json", "cluster"], 2, "request.invalid"),
        (&["--output=json", "token", "create", "--cluster", "a", "--uses", "0"], 2, "request.invalid"),
        (&["-o", "json", "login", "https://127.0.0.1:1"], 4, "session.missing"),
    ];
    for (arguments, exit, expected) in cases {
        let output = rapctl(directory.path(), arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let document: Value = serde_json::from_str(&error(&output))
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", error(&output)));
        assert_eq!(document["schema"], "rap.error.v1", "{arguments:?}");
        assert_eq!(document["code"], expected, "{arguments:?}: {document}");
        assert!(!document["message"].as_str().unwrap().is_empty(), "{arguments:?}");
        assert_eq!(code(&output), exit, "{arguments:?}: {document}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["completions", "bash"][..], &["man"], &["explain"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rapctl"))
            .args(arguments)
            .env("XDG_CONFIG_HOME", directory.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), error(&output).as_str()), (0, ""), "{arguments:?}");

        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_rapctl"))
            .args(arguments)
            .env("XDG_CONFIG_HOME", directory.path())
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(code(&output), 1, "{arguments:?}: {}", error(&output));
        assert!(error(&output).starts_with("error[state.io]"), "{arguments:?}: {}", error(&output));
    }
}

#[test]
fn files_without_end_and_pipes_that_nobody_writes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (arguments, expected, exit) in [
        (&["--config", "/dev/zero", "status"][..], "error[secret.exposed]: /dev/zero", 2),
        (&["context", "import", "/dev/zero"], "error[request.too_large]: /dev/zero", 2),
        (&["verify", "node.export", "--root", "/dev/zero"], "error[request.too_large]: /dev/zero", 2),
        (&["verify", "node.export", "--root", "pipe"], "error[request.timeout]: pipe", 10),
    ] {
        let output = rapctl(directory.path(), arguments);
        assert_eq!(code(&output), exit, "{arguments:?}: {}", error(&output));
        assert!(error(&output).starts_with(expected), "{arguments:?}: {}", error(&output));
    }
}

#[test]
fn a_context_with_a_senseless_address_or_name_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let context = |url: &str| {
        let id = "01900000-0000-7000-8000-000000000000";
        format!("url = \"{url}\"\ntls_ca_pin = \"{}\"\ninstallation_id = \"{id}\"\n", "00".repeat(32))
    };
    let take = |url: &str, name: &[&str]| {
        std::fs::write(directory.path().join("given"), context(url)).unwrap();
        rapctl(directory.path(), &[name, &["context", "import", "given"]].concat())
    };
    for (url, name) in [
        ("http://h:1", &[][..]),
        ("file:///etc/passwd", &[]),
        ("", &[]),
        ("https://h:1", &["--context", ""]),
        ("https://h:1", &["--context", "../x"]),
        ("https://h:1", &["--context", "a\u{202e}b"]),
        ("https://h:1", &["--context", ".."]),
    ] {
        let output = take(url, name);
        assert_eq!(code(&output), 2, "{url} {name:?}: {}", error(&output));
        assert!(error(&output).starts_with("error[request.invalid]"), "{url} {name:?}: {}", error(&output));
    }
    assert!(!directory.path().join("rap").exists(), "nothing was written");
    assert_eq!(code(&take("https://h:1", &[])), 0);
}

#[test]
fn only_an_operators_key_is_granted_a_role() {
    let directory = tempfile::tempdir().unwrap();
    for noun in [&["root", "init"][..], &["key", "create"]] {
        let made = [noun, &["--no-passphrase", "--out", noun[0]]].concat();
        assert_eq!(code(&rapctl(directory.path(), &made)), 0);
    }
    let grant = ["grant", "add", "ann", "--role", "platform_admin", "--key"];
    let root = rapctl(directory.path(), &[&grant[..], &["root.pub"]].concat());
    assert!(error(&root).starts_with("error[key.purpose]"), "{}", error(&root));
    let own = rapctl(directory.path(), &[&grant[..], &["key.pub"]].concat());
    assert!(error(&own).starts_with("error[session.missing]"), "{}", error(&own));
}

#[test]
fn a_peer_file_that_is_none_is_not_repeated() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("peer"), "\"hunter2\"").unwrap();
    let made = rapctl(directory.path(), &["root", "init", "--no-passphrase", "--out", "root"]);
    assert_eq!(code(&made), 0);
    let id = "01900000-0000-7000-8000-000000000001";
    let mut words = vec!["break-glass", "sign", "--key-file", "root.key", "--installation", id];
    words.extend(["--cluster", id, "--reason", "r", "--out", "grant"]);
    let peer = rapctl(directory.path(), &[&words[..], &["--peer", "peer"]].concat());
    let said = error(&peer);
    assert!(said.starts_with("error[request.invalid]") && !said.contains("hunter2"), "{said}");
    let zero = "00000000-0000-0000-0000-000000000000";
    let zero = rapctl(directory.path(), &[&words[..], &["--extend", "1h", "--node", zero]].concat());
    assert!(error(&zero).starts_with("error[request.invalid]"), "{}", error(&zero));
    assert!(!directory.path().join("grant").exists());
}

#[test]
fn a_damaged_contexts_file_is_named_and_its_session_is_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("contexts.toml");
    let context = |url: &str, session: &str, expires: &str| {
        let id = "01900000-0000-7000-8000-000000000000";
        format!(
            "current = \"a\"\n[contexts.a]\nurl = \"{url}\"\ntls_ca_pin = \"{}\"\ninstallation_id = \"{id}\"\n\
             [contexts.a.session]\nsecret = {session}\nexpires_at_ms = {expires}\n",
            "00".repeat(32)
        )
    };
    let url = "https://127.0.0.1:1";
    let late = "9000000000000";
    let cases: [(Vec<u8>, &str, i32); 7] = [
        (b"\xff\xfe\0".to_vec(), "config.invalid", 2),
        (b"current = 5".to_vec(), "config.invalid", 2),
        (context(url, "5", late).into(), "config.invalid", 2),
        (context(url, "\"hunter2\"", "\"hunter2\"").into(), "config.invalid", 2),
        (context(url, "\"hunter2\"", "1").into(), "session.expired", 4),
        (context("https://u:hunter2@127.0.0.1:1", "\"hunter2\"", late).into(), "request.invalid", 2),
        (context(url, "\"hunter2\"", late).into(), "server.unreachable", 6),
    ];
    for (text, expected, exit) in cases {
        std::fs::write(&file, &text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let output = rapctl(directory.path(), &["--config", "contexts.toml", "status"]);
        let said = error(&output);
        assert_eq!(code(&output), exit, "{said}");
        assert!(said.contains(expected) && !said.contains("hunter2"), "{expected}: {said}");
        assert_eq!(std::fs::read(&file).unwrap(), text, "the file is left alone");
    }
}

#[test]
fn no_control_character_reaches_a_manifest_or_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let output = rapctl(directory.path(), &["root", "sign-activation", "x.req", "--owner", "a\u{1b}[31m"]);
    assert_eq!(code(&output), 2, "{}", error(&output));
    let output = rapctl(directory.path(), &["--context", "a\u{1b}[31m", "status"]);
    assert!(!error(&output).contains('\u{1b}'), "{:?}", error(&output));
}

#[test]
fn a_break_glass_grant_is_signed_offline_within_its_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let made = rapctl(directory.path(), &["root", "init", "--out", "product-root", "--no-passphrase"]);
    assert_eq!(code(&made), 0, "{}", error(&made));
    let id = "01890000-0000-7000-8000-000000000001";
    let sign = |terms: &[&str]| {
        let fixed =
            ["break-glass", "sign", "--key-file", "product-root.key", "--installation", id, "--cluster", id];
        rapctl(directory.path(), &[&fixed, terms].concat())
    };
    let signed = sign(&["--reason", "lost", "--extend", "2h", "--out", "extend.grant", "-o", "json"]);
    assert_eq!(code(&signed), 0, "{}", error(&signed));
    let document: Value = serde_json::from_slice(&signed.stdout).unwrap();
    assert_eq!(
        (&document["schema"], &document["signer"]),
        (&"rap.break_glass.v1".into(), &"product-root".into())
    );
    let text = std::fs::read_to_string(directory.path().join("extend.grant")).unwrap();
    assert!(text.starts_with("rapb1."), "{text}");
    let peer = serde_json::json!({
        "node_id": id, "name": "rescue", "overlay_ipv4": "100.96.0.9", "overlay_ipv6": "fd00::9",
        "wireguard_public_key": "08".repeat(32), "node_key_sha256": "09".repeat(32), "key_generation": 1,
        "link_endpoints": ["192.0.2.9:7443"],
    });
    std::fs::write(directory.path().join("peer.json"), peer.to_string()).unwrap();
    for (file, field, value) in [
        ("zero.json", "wireguard_public_key", "00".repeat(32)),
        ("order.json", "wireguard_public_key", format!("ec{}7f", "ff".repeat(30))),
        ("path.json", "name", "../../x".to_owned()),
    ] {
        let mut senseless = peer.clone();
        senseless[field] = value.into();
        std::fs::write(directory.path().join(file), senseless.to_string()).unwrap();
    }
    assert_eq!(code(&sign(&["--reason", "lost", "--peer", "peer.json", "--out", "peer.grant"])), 0);
    for (terms, exit, why) in [
        (vec!["--reason", "lost", "--extend", "1h", "--ttl", "25h", "--out", "x"], 2, "longer than 24 h"),
        (vec!["--reason", "lost", "--extend", "5h", "--out", "x"], 2, "beyond its own life"),
        (vec!["--reason", "", "--extend", "1h", "--out", "x"], 2, "no reason"),
        (vec!["--reason", "lost", "--out", "x"], 2, "permits nothing"),
        (vec!["--reason", "lost", "--extend", "1h", "--out", "extend.grant"], 5, "overwrites"),
        (vec!["--reason", "lost", "--peer", "product-root.key", "--out", "x"], 2, "no peer"),
        (vec!["--reason", "lost", "--peer", "zero.json", "--out", "x"], 2, "an all-zero key"),
        (vec!["--reason", "lost", "--peer", "order.json", "--out", "x"], 2, "a key of small order"),
        (vec!["--reason", "lost", "--peer", "path.json", "--out", "x"], 2, "a path as name"),
    ] {
        let refused = sign(&terms);
        assert_eq!(code(&refused), exit, "{why}: {}", error(&refused));
        assert!(!directory.path().join("x").exists(), "{why}");
    }
}
