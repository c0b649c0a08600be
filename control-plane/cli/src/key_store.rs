//! Private key files on the operator's disk: passphrases, sealing, opening.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use rap_contract::{KEY_FILE_SCHEMA, KeyFile, Protection, PublicKeyFile, Signer};
use rap_runtime::exit::Fault;
use rap_types::{KeyId, Reason};
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::Protect;
use crate::files;
use crate::output::Answer;

/// Argon2id cost of new files (RFC 9106, second recommended option with more passes).
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// Fewest characters of the passphrase of a new key file.
const PASSPHRASE_MIN: usize = 12;
/// Largest cost accepted from a file: a hostile file must not take the machine.
const MEMORY_KIB_CAP: u32 = 1024 * 1024;
const PASSES_CAP: u32 = 16;

/// A new key: `out.key` holds the private half, `out.pub` the public one.
pub(crate) struct Pair {
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
    pub(crate) id: KeyId,
}

impl Pair {
    /// Makes a key and writes both files; neither may exist.
    pub(crate) fn create(out: &Path, purpose: &str, protect: &Protect) -> anyhow::Result<Self> {
        let (private, public) = (with_suffix(out, ".key"), with_suffix(out, ".pub"));
        files::absent(&public)?;
        let signer = generate();
        create(&private, purpose, &signer, protect)?;
        let file = PublicKeyFile::of(purpose, signer.public());
        files::create_new(&public, file.text().as_bytes(), 0o644)?;
        Ok(Self { private, public, id: signer.id() })
    }

    /// What was made; what a person is to do with each half stands behind its file.
    pub(crate) fn answer(&self, schema: &'static str, private_note: &str, public_note: &str) -> Answer {
        let (private, public) = (files::shown(&self.private), files::shown(&self.public));
        let body = json!({
            "private_key_file": private, "public_key_file": public, "fingerprint": self.id,
            "words": self.id.words(),
        });
        Answer::new(schema, body).properties([
            ("private key", format!("{private}{private_note}")),
            ("public key", format!("{public}{public_note}")),
            ("fingerprint", self.id.to_string()),
            ("words", self.id.words()),
        ])
    }
}

/// `path` with `suffix` after its last part.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A new key from the system's generator.
pub(crate) fn generate() -> Signer {
    Signer::generate(&mut rand::rng())
}

/// Writes a new private key file (0600), protected as asked.
pub(crate) fn create(path: &Path, purpose: &str, signer: &Signer, protect: &Protect) -> anyhow::Result<()> {
    let file = if protect.no_passphrase {
        KeyFile::open_text(purpose, signer)
    } else {
        let passphrase = new_passphrase(path, protect)?;
        seal(purpose, signer, &passphrase)?
    };
    files::create_new(path, file.text().as_bytes(), 0o600)
}

/// Opens a private key file, asking for the passphrase if it needs one.
pub(crate) fn open(path: &Path, protect: &Protect) -> anyhow::Result<Signer> {
    unlock(path, &read(path)?, protect)
}

/// As [`open`], for a key that must have been made for `purpose`.
pub(crate) fn open_for(path: &Path, purpose: &str, protect: &Protect) -> anyhow::Result<Signer> {
    let file = read(path)?;
    if file.purpose != purpose {
        let text = format!("{}: a key for {}, not for {purpose}", path.display(), file.purpose);
        return Err(Fault::new(Reason::KeyPurpose, text).into());
    }
    unlock(path, &file, protect)
}

fn read(path: &Path) -> anyhow::Result<KeyFile> {
    let text = Zeroizing::new(files::read_text(path, 16 * 1024)?);
    KeyFile::parse(&text).map_err(|reject| files::rejected(path, reject).into())
}

fn unlock(path: &Path, file: &KeyFile, protect: &Protect) -> anyhow::Result<Signer> {
    if let Some(signer) = file.unprotected().map_err(Fault::from)? {
        return Ok(signer);
    }
    let passphrase = passphrase(&format!("Passphrase of {}: ", path.display()), protect)?;
    unseal(file, &passphrase)
}

fn seal(purpose: &str, signer: &Signer, passphrase: &str) -> anyhow::Result<KeyFile> {
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    rand::rng().fill_bytes(&mut salt);
    rand::rng().fill_bytes(&mut nonce);
    let public_key = signer.public().to_string();
    let cipher = cipher(passphrase, &salt, MEMORY_KIB, PASSES)?;
    let aad = additional_data(purpose, &public_key);
    let ciphertext = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: signer.seed().as_slice(), aad: &aad })
        .map_err(|_| anyhow::anyhow!("sealing failed"))?;
    Ok(KeyFile {
        schema: KEY_FILE_SCHEMA.to_owned(),
        purpose: purpose.to_owned(),
        public_key,
        protection: Protection::Passphrase {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            salt: hex::encode(salt),
            nonce: hex::encode(nonce),
            ciphertext: hex::encode(ciphertext),
        },
    })
}

fn unseal(file: &KeyFile, passphrase: &str) -> anyhow::Result<Signer> {
    let invalid = |what| Fault::new(Reason::KeyInvalid, what);
    let Protection::Passphrase { memory_kib, passes, salt, nonce, ciphertext } = &file.protection else {
        return Err(invalid("not protected by a passphrase").into());
    };
    if *memory_kib > MEMORY_KIB_CAP || *passes > PASSES_CAP {
        return Err(invalid("key derivation cost out of range").into());
    }
    let (mut salt_bytes, mut nonce_bytes) = ([0; 16], [0; 24]);
    hex::decode_to_slice(salt, &mut salt_bytes).map_err(|_| invalid("salt"))?;
    hex::decode_to_slice(nonce, &mut nonce_bytes).map_err(|_| invalid("nonce"))?;
    let ciphertext = hex::decode(ciphertext).map_err(|_| invalid("ciphertext"))?;
    let cipher = cipher(passphrase, &salt_bytes, *memory_kib, *passes)?;
    let aad = additional_data(&file.purpose, &file.public_key);
    let seed = cipher
        .decrypt(&XNonce::from(nonce_bytes), Payload { msg: &ciphertext, aad: &aad })
        .map(Zeroizing::new)
        .map_err(|_| Fault::new(Reason::SecretUnseal, "wrong passphrase, or the file was altered"))?;
    let seed: Zeroizing<[u8; 32]> =
        Zeroizing::new(seed.as_slice().try_into().map_err(|_| invalid("seed length"))?);
    file.signer(&seed).map_err(|reject| Fault::new(reject.reason, reject.what).into())
}

fn cipher(passphrase: &str, salt: &[u8], memory_kib: u32, passes: u32) -> anyhow::Result<XChaCha20Poly1305> {
    let params = Params::new(memory_kib, passes, 1, Some(32))
        .map_err(|_| Fault::new(Reason::KeyInvalid, "key derivation parameters"))?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_| Fault::new(Reason::KeyInvalid, "key derivation"))?;
    Ok(XChaCha20Poly1305::new_from_slice(key.as_slice())?)
}

fn additional_data(purpose: &str, public_key: &str) -> Vec<u8> {
    format!("{KEY_FILE_SCHEMA}\0{purpose}\0{public_key}").into_bytes()
}

fn new_passphrase(path: &Path, protect: &Protect) -> anyhow::Result<Zeroizing<String>> {
    let first = passphrase(&format!("New passphrase for {}: ", path.display()), protect)?;
    if protect.passphrase_file.is_none() {
        let second = passphrase("Again: ", protect)?;
        if *first != *second {
            return Err(Fault::new(Reason::RequestInvalid, "the passphrases differ").into());
        }
    }
    if first.is_empty() {
        return Err(Fault::new(Reason::RequestInvalid, "an empty passphrase; use --no-passphrase").into());
    }
    if first.chars().count() < PASSPHRASE_MIN {
        let text = format!(
            "a passphrase of at least {PASSPHRASE_MIN} characters: whoever copies the file guesses at leisure"
        );
        return Err(Fault::new(Reason::RequestInvalid, text).into());
    }
    Ok(first)
}

fn passphrase(prompt: &str, protect: &Protect) -> anyhow::Result<Zeroizing<String>> {
    if let Some(path) = &protect.passphrase_file {
        let text = Zeroizing::new(files::read_secret_text(path, 4096)?);
        return Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    if !std::io::stdin().is_terminal() {
        let message = "no terminal to ask for a passphrase; give --passphrase-file or --no-passphrase";
        return Err(Fault::new(Reason::SecretMissing, message).into());
    }
    rpassword::prompt_password(prompt).map(Zeroizing::new).context("reading the passphrase")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_only_and_notices_alteration() {
        let signer = generate();
        let file = seal("owner", &signer, "correct horse").unwrap();
        assert_eq!(unseal(&file, "correct horse").unwrap().public(), signer.public());
        assert!(unseal(&file, "wrong").is_err());
        let renamed = KeyFile { purpose: "product-root".into(), ..file.clone() };
        assert!(unseal(&renamed, "correct horse").is_err());
        assert!(!file.text().contains(&hex::encode(signer.seed().as_slice())));
    }

    #[test]
    fn a_file_that_asks_for_absurd_work_is_refused() {
        let mut file = seal("owner", &generate(), "p").unwrap();
        if let Protection::Passphrase { memory_kib, .. } = &mut file.protection {
            *memory_kib = u32::MAX;
        }
        assert!(unseal(&file, "p").is_err());
    }
}
