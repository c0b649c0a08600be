//! The program as it is typed: exit codes, refusals, what is printed.

use std::path::Path;
use std::process::{Command, Output};

use rap_contract::{PublicKeyFile, Signer};
use rap_store::testing::TestDatabase;

pub fn run(arguments: &[&str]) -> Output {
    run_in(Path::new("/"), arguments)
}

pub fn run_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rap-control-plane"))
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(folder)
        .output()
        .unwrap()
}

pub fn refused(arguments: &[&str], exit: i32, code: &str) {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {text}");
    assert!(text.contains(code), "{arguments:?}: {text}");
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn serving_before_init_or_with_a_bad_configuration_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = text(&data);
    refused(&["serve", "--data-dir", data, "--listen", "127.0.0.1:0"], 2, "config.invalid");
    refused(&["check", "--data-dir", data, "--listen", "nonsense"], 2, "config.invalid");
    let long = ["--degraded-for-ms", "43200001"];
    refused(
        &["check", "--data-dir", data, "--listen", "127.0.0.1:1", long[0], long[1]],
        2,
        "degraded_for_ms",
    );
    let public = ["init", "--data-dir", data, "--authority-mode", "dev", "--listen", "0.0.0.0:8443"];
    refused(&[&public[..], &["--control-url", "https://h"]].concat(), 2, "authority.dev_address");
}

#[test]
fn every_problem_of_a_configuration_is_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("control-plane.toml");
    let lines = [
        "lissten = \"127.0.0.1:1\"",
        "connections = \"many\"",
        "authority_mode = \"lax\"",
        "log = \"!!!==\"",
        "leaf_lifetime_ms = 9000000000000000",
        "fresh_for_ms = 9000000000000000",
        "report_interval_ms = 0",
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let data = directory.path().join("data");
    for command in ["init", "serve", "check", "config", "migrate"] {
        let output = run(&[command, "--config", text(&file), "--data-dir", text(&data)]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        for line in lines {
            let option = line.split_once(" =").unwrap().0;
            assert!(said.contains(option), "{command}: {option} missing in {said}");
        }
        assert!(!data.exists(), "{command} made something");
    }
}

#[test]
fn an_address_that_nobody_could_reach_is_not_put_into_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let init = ["init", "--authority-mode", "dev", "--listen", "127.0.0.1:0", "--data-dir", text(&data)];
    refused(&init, 2, "control_urls");
    assert!(!data.exists());
}

#[test]
fn strict_mode_needs_a_root_that_is_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let base = ["init", "--data-dir", text(&data), "--listen", "127.0.0.1:8443"];
    refused(&base, 2, "secret.missing");
    let zero = directory.path().join("zero.pub");
    std::fs::write(&zero, "00".repeat(32)).unwrap();
    refused(&[&base[..], &["--root-key", text(&zero)]].concat(), 7, "key.invalid");
    assert!(!data.exists(), "nothing is made before the root is a key");
}

#[test]
fn an_init_that_failed_can_be_repeated_in_either_mode() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let root = directory.path().join("root.pub");
    let key = Signer::generate(&mut rand::rng()).public();
    std::fs::write(&root, PublicKeyFile::of("product-root", key).text()).unwrap();
    let init = ["init", "--json", "--data-dir", text(&data), "--listen", "127.0.0.1:8443"];
    // Nobody listens there: the database is what fails.
    let without = ["--database-url", "postgres://rap@127.0.0.1:1/rap"];
    let strict = ["--root-key", text(&root)];
    let dev = ["--authority-mode", "dev"];
    for mode in [&strict[..], &dev, &strict] {
        let output = run(&[&init[..], mode, &without].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{said}");
        let document: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(document["schema"], "rap.error.v1");
        assert_eq!(document["code"], "store.unavailable");
        assert!(said.contains("127.0.0.1:1"), "which host refused: {said}");
        assert!(!data.exists(), "nothing was made");
    }
    let root_named_again = run(&[&init[..], &without].concat());
    let said = String::from_utf8(root_named_again.stderr).unwrap();
    assert!(said.contains("secret.missing"), "a root from another attempt is not trusted: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_database_is_kept_and_a_second_init_on_it_makes_nothing() {
    let database = TestDatabase::empty().await;
    let (url, directory) = (database.url(), tempfile::tempdir().unwrap());
    let init = |name: &str, more: &[&str]| {
        let data = directory.path().join(name);
        let dev =
            ["init", "--data-dir", text(&data), "--listen", "127.0.0.1:8443", "--authority-mode", "dev"];
        (run(&[&dev[..], &["--database-url", &url], more].concat()), data)
    };
    let (made, first) = init("first", &[]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let kept = std::fs::read_to_string(first.join("database.url")).unwrap();
    assert_eq!(kept, url);
    // Later commands need no URL.
    let rows = run(&["rows", "check", "--data-dir", text(&first)]);
    assert!(rows.status.success(), "{}", String::from_utf8_lossy(&rows.stderr));
    let (refused, second) = init("second", &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("resource.exists") && said.contains("--secret-key-file"), "{said}");
    assert!(!second.exists(), "no key that opens nothing");
    let other = directory.path().join("other.key");
    std::fs::write(&other, "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (refused, third) = init("third", &["--secret-key-file", text(&other)]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("does not open it"), "{said}");
    assert!(!third.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_and_a_url_that_is_none_have_codes_of_their_own() {
    let database = TestDatabase::empty().await;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let dev = ["init", "--data-dir", text(&data), "--listen", "127.0.0.1:8443", "--authority-mode", "dev"];
    let name = database.url().split(['/', '?']).nth(3).unwrap().to_owned();
    for (url, code, never) in [
        (database.url().replace(&name, "not_made"), "store.missing", "not a secret"),
        (database.url().replace("rap_owner@", "nobody_here@"), "store.credentials", "not a secret"),
        (format!("{}&hunter2=x", database.url()), "config.invalid", "hunter2"),
        ("postgres://rap:hunter2?hunter2=1@db.example/rap".to_owned(), "config.invalid", "hunter2"),
    ] {
        let output = run(&[&dev[..], &["--database-url", &url]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{url}: {said}");
        assert!(said.contains(code) && !said.contains(never), "{url}: {said}");
        assert!(!data.exists(), "{url}");
    }
}

#[test]
fn a_data_directory_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("authority-mode"), "dev\n").unwrap();
    let root = directory.path().join("root.pub");
    let key = Signer::generate(&mut rand::rng()).public();
    std::fs::write(&root, PublicKeyFile::of("product-root", key).text()).unwrap();
    let strict = ["--data-dir", text(&data), "--listen", "127.0.0.1:0", "--root-key", text(&root)];
    refused(&[&["init"], &strict[..]].concat(), 5, "authority.mode_fixed");
    refused(&[&["serve"], &strict[..]].concat(), 5, "authority.mode_fixed");
    std::fs::write(data.join("authority-mode"), "strict\n").unwrap();
    let dev = ["serve", "--data-dir", text(&data), "--listen", "127.0.0.1:0", "--authority-mode", "dev"];
    refused(&dev, 5, "authority.mode_fixed");
    // Strict, with a root, without the secret key.
    refused(&[&["serve"], &strict[..]].concat(), 2, "secret.missing");
}

#[test]
fn the_effective_configuration_names_every_option_and_its_origin() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("control-plane.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\nrefresh_every_ms = 5000\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"))
        .args(["config", "--effective", "--json", "--config", text(&file), "--session-seconds", "60"])
        .env_clear()
        .env("RAP_DATABASE_URL", "postgres://rap:hunter2@db/rap")
        .env("RAP_REFRESH_EVERY_MS", "6000")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(!printed.contains("hunter2"), "{printed}");
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["schema"], "rap.config.v1");
    let option = |name: &str| {
        let of = |part: &str| document[part][name].as_str().unwrap().to_owned();
        (of("values"), of("origins"))
    };
    assert_eq!(option("listen"), ("127.0.0.1:1".into(), "file".into()));
    assert_eq!(option("refresh_every_ms"), ("6000".into(), "given".into()));
    assert_eq!(option("session_seconds"), ("60".into(), "given".into()));
    assert_eq!(option("fresh_for_ms"), ("300000".into(), "default".into()));
}

#[test]
fn a_credential_of_the_service_manager_is_a_database_url_unless_one_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let credential = directory.path().join("RAP_DATABASE_URL");
    let shown = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"));
        command.args(["config", "--effective", "--json"]).args(["--listen", "127.0.0.1:1"]);
        command.env_clear().env("CREDENTIALS_DIRECTORY", directory.path());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        document["values"]["database_url"].as_str().unwrap().to_owned()
    };
    assert_eq!(shown(&[]), "private", "the service has other credentials");
    std::fs::write(&credential, "postgres://rap:hunter2@db/rap\n").unwrap();
    assert_eq!(shown(&[]), format!("in {}", credential.display()));
    assert_eq!(shown(&[("RAP_DATABASE_URL_FILE", "/etc/rap/url")]), "in /etc/rap/url");
    assert_eq!(shown(&[("RAP_DATABASE_URL", "postgres://u:p@db/rap")]), "given, not shown");
}

#[test]
fn floors_are_shown_and_confirmed_by_the_number_that_the_database_holds() {
    let directory = tempfile::tempdir().unwrap();
    // The account of a private PostgreSQL passes through.
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    let settings =
        ["--authority-mode", "dev", "--listen", "127.0.0.1:1", "--control-url", "https://127.0.0.1:1"];
    let command = |words: &[&str]| {
        let output = run(&[words, &settings[..], &["--data-dir", text(&data)]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice::<serde_json::Value>(&output.stdout).ok(), said)
    };
    let (made, _, said) = command(&["init", "--json"]);
    assert_eq!(made, Some(0), "{said}");
    let (shown, document, said) = command(&["floors", "show", "--json"]);
    assert_eq!(shown, Some(0), "{said}");
    let document = document.unwrap();
    assert_eq!(document["schema"], "rap.floors.v1");
    assert_eq!(document["floors"]["grant_set"]["sequence"], 1);
    assert_eq!(document["newest_set"]["grants"][0]["platform_role"], "platform_owner");

    std::fs::remove_file(data.join("floors.json")).unwrap();
    let (refused, _, said) = command(&["floors", "confirm", "--sequence", "2"]);
    assert_eq!(refused, Some(5), "{said}");
    assert!(said.contains("request.conflict"), "{said}");
    assert!(!data.join("floors.json").exists());
    let (confirmed, document, said) = command(&["floors", "confirm", "--sequence", "1", "--json"]);
    assert_eq!(confirmed, Some(0), "{said}");
    assert_eq!(document.unwrap()["floors"]["grant_set"]["sequence"], 1);
}

/// What the program says and how it ends with `out` as its standard output.
fn printing_to(arguments: &[&str], out: std::process::Stdio) -> (Option<i32>, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"))
        .args(arguments)
        .env_clear()
        .stdout(out)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one() {
    for arguments in [&["config", "--effective"][..], &["config", "--effective", "--json"], &["check"]] {
        let arguments = [arguments, &["--listen", "127.0.0.1:1", "--data-dir", "/nonexistent"]].concat();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(printing_to(&arguments, writer.into()), (Some(0), String::new()), "{arguments:?}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, said) = printing_to(&arguments, full.into());
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains("state.io") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn files_without_end_and_pipes_that_nobody_writes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let data = directory.path().join("data");
    let data = ["--listen", "127.0.0.1:1", "--data-dir", text(&data)];
    refused(&[&["check", "--config", "/dev/zero"], &data[..]].concat(), 2, "longer than");
    refused(&[&["check", "--config", text(&pipe)], &data[..]].concat(), 2, "nothing came");
    std::fs::create_dir(data[3]).unwrap();
    let key = Path::new(data[3]).join("secret.key");
    rap_runtime::files::write_atomic(&key, format!("{}=\n", "A".repeat(42) + "E").as_bytes(), 0o600).unwrap();
    refused(&[&["backup", "verify", text(&pipe)], &data[..]].concat(), 1, "not a regular file");
    refused(&[&["backup", "restore", text(&pipe)], &data[..]].concat(), 1, "not a regular file");
    refused(&[&["backup", "verify", "/dev/zero"], &data[..]].concat(), 1, "not a regular file");
}

#[test]
fn a_key_that_cannot_be_imported_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (root, key) = (directory.path().join("root.pub"), directory.path().join("key"));
    let signer = Signer::generate(&mut rand::rng());
    std::fs::write(&root, PublicKeyFile::of("product-root", signer.public()).text()).unwrap();
    let foreign = rap_contract::KeyFile::open_text("cluster-authority", &signer).text();
    let data = directory.path().join("data");
    let init = ["init", "--root-key", text(&root), "--listen", "127.0.0.1:1", "--data-dir", text(&data)];
    let import = ["--import-installation-key", text(&key)];
    for (bytes, mode, exit, code) in [
        (foreign.as_str(), 0o600, 7, "key.purpose"),
        ("{", 0o600, 7, "key.invalid"),
        (foreign.as_str(), 0o644, 2, "secret.exposed"),
    ] {
        rap_runtime::files::write_atomic(&key, bytes.as_bytes(), mode).unwrap();
        refused(&[&init[..], &import].concat(), exit, code);
        assert!(!data.exists(), "{code}: nothing is made");
    }
}

#[test]
fn check_tells_every_finding_and_ends_with_the_code_of_the_first_bad_one() {
    let directory = tempfile::tempdir().unwrap();
    let check = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"));
        command.args(["check", "--json", "--listen", "127.0.0.1:1", "--data-dir"]).arg(directory.path());
        let output = command.env_clear().args(more).output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["schema"], "rap.check.v1");
        let bad: Vec<String> = document["checks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|check| check["ok"] == false)
            .map(|check| format!("{} {}", check["id"].as_str().unwrap(), check["reason"].as_str().unwrap()))
            .collect();
        assert_eq!(document["ok"], bad.is_empty());
        (bad, output.status.code())
    };
    assert_eq!(check(&[]), (Vec::new(), Some(0)));
    std::fs::write(directory.path().join("authority-mode"), "strict\n").unwrap();
    let (bad, code) = check(&[]);
    assert_eq!(bad.len(), 2, "no root and no secret key: {bad:?}");
    assert_ne!(code, Some(0));
    let (bad, _) = check(&["--authority-mode", "dev"]);
    assert!(bad.iter().any(|one| one == "data_dir authority.mode_fixed"), "{bad:?}");
}
