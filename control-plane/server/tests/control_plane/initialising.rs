//! `init` as it is typed: where to listen, and undoing an earlier one.

use rap_contract::{PublicKeyFile, Signer};
use rap_store::testing::TestDatabase;

use crate::program::{refused, run, run_in, text};

#[test]
fn a_listen_name_without_an_address_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for listen in ["no-such-host.invalid:8443", "HOST:8443"] {
        refused(&["init", "--data-dir", text(&data), "--listen", listen], 2, "listen");
        assert!(!data.exists(), "{listen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_nobody_activated_is_replaced_and_an_activated_one_is_not() {
    let database = TestDatabase::empty().await;
    let (url, directory) = (database.url(), tempfile::tempdir().unwrap());
    let (data, root) = (directory.path().join("data"), directory.path().join("root.pub"));
    let key = Signer::generate(&mut rand::rng()).public();
    std::fs::write(&root, PublicKeyFile::of("product-root", key).text()).unwrap();
    let init = |port: u16, more: &[&str]| {
        let listen = format!("127.0.0.1:{port}");
        let all = ["init", "--json", "--data-dir", text(&data), "--database-url", &url, "--listen", &listen];
        let output = run_in(directory.path(), &[&all[..], more].concat());
        let made: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        let kept = std::fs::read_to_string(data.join("settings.toml")).unwrap();
        (made, String::from_utf8_lossy(&output.stderr).into_owned(), kept)
    };
    let strict = ["--root-key", text(&root)];
    let (first, said, _) = init(8001, &strict);
    let first = first.expect(&said);
    let (again, said, kept) = init(8002, &strict);
    assert!(again.is_none() && kept.contains(":8001"), "without the option nothing is replaced: {said}");
    let (second, said, kept) = init(8003, &["--replace", "--authority-mode", "dev"]);
    let second = second.expect(&said);
    assert_ne!(first["installation_id"], second["installation_id"]);
    assert_eq!(second["control_urls"], serde_json::json!(["https://127.0.0.1:8003"]));
    assert!(kept.contains(":8003") && kept.contains("dev") && !kept.contains(":8001"), "{kept}");
    let (third, said, after) = init(8004, &["--replace", "--authority-mode", "dev"]);
    assert!(third.is_none() && said.contains("resource.exists"), "it is activated: {said}");
    assert_eq!(after, kept, "nothing was changed");
    let rows = run(&["rows", "check", "--data-dir", text(&data)]);
    assert!(rows.status.success(), "{}", String::from_utf8_lossy(&rows.stderr));
}
