//! `init --import-installation-key` as it is typed: a key that was made elsewhere, and what is not one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rap_contract::{KeyFile, Protection, PublicKeyFile, Signer};

struct Place {
    directory: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The account of a private PostgreSQL passes through.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = directory.path().join("root.pub");
        let key = Signer::generate(&mut rand::rng()).public();
        std::fs::write(&root, PublicKeyFile::of("product-root", key).text()).unwrap();
        Self { directory, root }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A file of this text and these mode bits.
    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn init(&self, key: &Path) -> Output {
        Command::new(env!("CARGO_BIN_EXE_rap-control-plane"))
            .args(["init", "--json", "--listen", "127.0.0.1:1", "--control-url", "https://127.0.0.1:1"])
            .arg("--data-dir")
            .arg(self.data())
            .arg("--root-key")
            .arg(&self.root)
            .arg("--import-installation-key")
            .arg(key)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.directory.path())
            .output()
            .unwrap()
    }
}

const PURPOSE: &str = "installation-authority";

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_key_that_was_made_elsewhere_becomes_the_installation_authority_and_is_nowhere_in_the_open() {
    let place = Place::new();
    let key = Signer::generate(&mut rand::rng());
    let file = place.file("installation.key", &KeyFile::open_text(PURPOSE, &key).text(), 0o600);
    let made = place.init(&file);
    let said = [&made.stdout[..], &made.stderr[..]].concat();
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
    let document: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    // What the Product Root will vouch for is that key.
    let request = place.directory.path().join(document["activation_request"].as_str().unwrap());
    let request = std::fs::read(request).unwrap();
    assert!(holds(&request, key.public().as_bytes()));

    let secrets = [key.seed().to_vec(), hex::encode(key.seed().as_slice()).into_bytes()];
    let mut looked_at = 0;
    let mut folders = vec![place.data()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!secrets.iter().any(|secret| holds(&bytes, secret)), "{}", path.display());
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 100, "the database's files, too: {looked_at}");
    for secret in &secrets {
        assert!(!holds(&said, secret) && !holds(&request, secret));
    }
    for (name, mode) in [("secret.key", 0o600), ("floors.json", 0o600), ("rows.sealed", 0o600)] {
        let found = std::fs::metadata(place.data().join(name)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }
    // There it stays: another key is not taken.
    let other = Signer::generate(&mut rand::rng());
    let other = place.file("other.key", &KeyFile::open_text(PURPOSE, &other).text(), 0o600);
    let again = place.init(&other);
    assert_eq!(again.status.code(), Some(5));
    assert!(String::from_utf8(again.stderr).unwrap().contains("resource.exists"));
}

#[test]
fn what_is_no_installation_key_is_refused_with_its_reason_and_makes_no_installation() {
    let place = Place::new();
    let key = Signer::generate(&mut rand::rng());
    let text = |change: fn(&mut KeyFile)| {
        let mut file = KeyFile::open_text(PURPOSE, &key);
        change(&mut file);
        file.text().to_string()
    };
    let seeded = |seed: &str| {
        let mut file = KeyFile::open_text(PURPOSE, &key);
        file.protection = Protection::None { seed: seed.to_owned() };
        file.text().to_string()
    };
    let zero = KeyFile::open_text(PURPOSE, &Signer::from_seed(&[0; 32])).text().to_string();
    let protected = text(|file| {
        let (salt, nonce, ciphertext) = ("00".repeat(16), "00".repeat(24), "00".repeat(48));
        file.protection = Protection::Passphrase { memory_kib: 64, passes: 1, salt, nonce, ciphertext };
    });
    let hex = hex::encode(key.seed().as_slice());
    for (name, text, mode, exit, code) in [
        ("short", seeded(&hex[..62]), 0o600, 7, "key.invalid"),
        ("long", seeded(&format!("{hex}00")), 0o600, 7, "key.invalid"),
        ("another half", seeded(&"11".repeat(32)), 0o600, 7, "key.invalid"),
        ("zero", zero, 0o600, 7, "key.invalid"),
        ("raw", hex.clone(), 0o600, 7, "key.invalid"),
        ("empty", String::new(), 0o600, 7, "key.invalid"),
        ("an owner's", text(|file| file.purpose = "owner".into()), 0o600, 7, "key.purpose"),
        ("a cluster's", text(|file| file.purpose = "cluster-authority".into()), 0o600, 7, "key.purpose"),
        ("protected", protected, 0o600, 2, "secret.missing"),
        ("group-writable", text(|_| ()), 0o620, 2, "secret.exposed"),
        ("world-readable", text(|_| ()), 0o604, 2, "secret.exposed"),
    ] {
        let refused = place.init(&place.file("installation.key", &text, mode));
        let said = String::from_utf8([&refused.stdout[..], &refused.stderr[..]].concat()).unwrap();
        assert_eq!(refused.status.code(), Some(exit), "{name}: {said}");
        let document: serde_json::Value = serde_json::from_slice(&refused.stderr).unwrap();
        assert_eq!(document["code"], code, "{name}: {said}");
        assert!(said.contains("installation.key"), "{name}: the file is named: {said}");
        assert!(!said.contains(&hex[..16]), "{name}: {said}");
        for made in ["authority-mode", "floors.json", "rows.sealed", "control-plane.toml"] {
            assert!(!place.data().join(made).exists(), "{name} made {made}");
        }
    }
    let absent = place.init(&place.directory.path().join("nowhere.key"));
    assert_ne!(absent.status.code(), Some(0));
    // The same directory takes the right one afterwards.
    let right = place.init(&place.file("installation.key", &text(|_| ()), 0o600));
    assert_eq!(right.status.code(), Some(0), "{}", String::from_utf8_lossy(&right.stderr));
}
