//! The data directory: which mode it was made for, and the small files in it.
//!
//! Owns names, modes and the rule that a directory never changes its authority mode. Refuses to own
//! the database inside it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rap_authority::SealingKey;
use rap_contract::{KeyFile, KeySet, PublicKeyFile, Signer};
use rap_runtime::{Secret, files};
use rap_types::Reason;
use rap_wire::v1;
use zeroize::Zeroizing;

use crate::config::layers::SETTINGS_FILE;
use crate::config::settings::{AuthorityMode, Config, DatabaseSource};
use crate::failure::Failure;
use crate::keys::key_ring::Stage;

/// Name of the secret encryption key in environment and credentials.
pub(crate) const SECRET_KEY: &str = "SECRET_ENCRYPTION_KEY_B64";

/// The files of one data directory.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The directory a configuration names.
    pub fn of(config: &Config) -> Self {
        Self(config.data_dir.clone())
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The mode it was made for; `None` if `init` never ran here.
    pub fn mode(&self) -> Result<Option<AuthorityMode>, Failure> {
        let path = self.file(MODE);
        match files::read_capped(&path, 64) {
            Ok(text) => match text.trim_ascii() {
                b"strict" => Ok(Some(AuthorityMode::Strict)),
                b"dev" => Ok(Some(AuthorityMode::Dev)),
                _ => Err(Failure::new(
                    Reason::StateCorrupt,
                    format!("{}: not an authority mode", path.display()),
                )),
            },
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses to use the directory in another mode than it was made for.
    pub fn require_mode(&self, wanted: AuthorityMode) -> Result<(), Failure> {
        match self.mode()? {
            Some(mode) if mode == wanted => Ok(()),
            Some(mode) => {
                let text = format!("{} was made in {} mode", self.0.display(), mode.as_str());
                Err(Failure::new(Reason::AuthorityModeFixed, text))
            }
            None => {
                let text = format!("{}: run `rap-control-plane init` first", self.0.display());
                Err(Failure::new(Reason::ConfigInvalid, text))
            }
        }
    }

    /// Makes the directory (0755 under root, whose PostgreSQL account must pass; 0700 otherwise).
    pub fn create(&self) -> Result<(), Failure> {
        if self.mode()?.is_some() {
            return Ok(());
        }
        Ok(files::create_private_dir(&self.0)?)
    }

    /// Fixes the mode for ever.
    pub fn fix_mode(&self, mode: AuthorityMode) -> Result<(), Failure> {
        if self.mode()?.is_some() {
            return self.require_mode(mode);
        }
        self.write(MODE, format!("{}\n", mode.as_str()).as_bytes(), 0o600)
    }

    /// Writes a file whole.
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        Ok(files::write_atomic(&self.file(name), bytes, mode)?)
    }

    /// Records what `serve` needs to know of `init`'s options.
    pub fn write_settings(&self, config: &Config) -> Result<(), Failure> {
        let mut settings = toml::Table::new();
        settings.insert("listen".into(), config.listen.to_string().into());
        let urls: Vec<toml::Value> = config.control_urls.iter().map(|url| url.clone().into()).collect();
        settings.insert("control_urls".into(), urls.into());
        settings.insert("authority_mode".into(), config.mode.as_str().into());
        if let Some(path) = self.keep_database_url(config)? {
            settings.insert("database_url_file".into(), path.display().to_string().into());
        }
        let text =
            format!("# Recorded by `rap-control-plane init`. Files and flags override it.\n{settings}");
        self.write(SETTINGS_FILE, text.as_bytes(), 0o644)
    }

    /// The file that later starts read the database URL from; the URL itself can hold a password. `None` for the
    /// private server, and for a credential that the service manager gives anew at each start.
    fn keep_database_url(&self, config: &Config) -> Result<Option<PathBuf>, Failure> {
        match &config.database {
            DatabaseSource::Embedded => Ok(None),
            DatabaseSource::Url(url) => {
                self.write(DATABASE_URL_FILE, url.as_bytes(), 0o600)?;
                Ok(Some(self.file(DATABASE_URL_FILE)))
            }
            DatabaseSource::UrlFile(path)
                if Secret::credential("RAP_DATABASE_URL").as_ref() == Some(path) =>
            {
                Ok(None)
            }
            DatabaseSource::UrlFile(path) => {
                let path = std::path::absolute(path)
                    .map_err(|error| Failure::new(Reason::StateIo, format!("{}: {error}", path.display())))?;
                Ok(Some(path))
            }
        }
    }

    /// The Product Root keys: the configured file, or the copy that `init` made.
    pub fn roots(&self, config: &Config) -> Result<KeySet, Failure> {
        let path = config.root_key.clone().unwrap_or_else(|| self.file(ROOT_KEY));
        let text = files::read_capped(&path, 16 * 1024).map_err(|error| {
            if error.is_not_found() {
                Failure::new(
                    Reason::SecretMissing,
                    format!("no Product Root public key at {}; give --root-key", path.display()),
                )
            } else {
                error.into()
            }
        })?;
        root_keys(&text)
            .map_err(|fault| Failure::new(fault.reason, format!("{}: {}", path.display(), fault.message)))
    }

    /// The key encryption key: `SECRET_ENCRYPTION_KEY_B64[_FILE]`, a systemd credential, the configured
    /// file, or `secret.key` in this directory.
    pub fn sealing_key(&self, config: &Config) -> Result<SealingKey, Failure> {
        let path = config.secret_key_file.clone().unwrap_or_else(|| self.file(SECRET_FILE));
        let given = if config.secret_key_file.is_some() { None } else { Secret::load_optional(SECRET_KEY)? };
        given.map_or_else(|| read_sealing_key(&path), |secret| decode_sealing_key(&secret))
    }

    /// Every key encryption key on this host: the configured one first, then those of a rotation that is
    /// under way.
    pub fn sealing_keys(&self, config: &Config) -> Result<Vec<SealingKey>, Failure> {
        let mut keys = vec![self.sealing_key(config)?];
        for name in [SECRET_NEXT, SECRET_PREVIOUS] {
            if self.file(name).exists() {
                keys.push(read_sealing_key(&self.file(name))?);
            }
        }
        Ok(keys)
    }

    /// True if the key encryption key is this directory's own `secret.key`.
    pub fn keeps_own_key(&self, config: &Config) -> bool {
        config.secret_key_file.as_ref().is_none_or(|path| *path == self.file(SECRET_FILE))
            && matches!(Secret::load_optional(SECRET_KEY), Ok(None))
    }

    /// The key of a rotation: the one on disk if a rotation was begun, else the given or a new one, which
    /// is on disk when this returns.
    pub fn next_sealing_key(&self, file: Option<&Path>) -> Result<SealingKey, Failure> {
        let given = file.map(read_sealing_key).transpose()?;
        if self.file(SECRET_NEXT).exists() {
            let begun = read_sealing_key(&self.file(SECRET_NEXT))?;
            if given.is_some_and(|given| given.expose() != begun.expose()) {
                let text = "a rotation to another key is under way; finish it without --new-key-file";
                return Err(Failure::new(Reason::RequestConflict, text));
            }
            return Ok(begun);
        }
        let key = given.unwrap_or_else(|| SealingKey::generate(&mut rand::rng()));
        self.write_sealing_key(SECRET_NEXT, &key)?;
        Ok(key)
    }

    /// Puts the new key into the place of the old one, which stays beside it until it is retired.
    pub fn place_sealing_key(&self, new: &SealingKey, until: Stage) -> Result<(), Failure> {
        let present = read_sealing_key(&self.file(SECRET_FILE))?;
        if present.expose() != new.expose() {
            self.write_sealing_key(SECRET_PREVIOUS, &present)?;
            if until == Stage::Saved {
                return Ok(());
            }
            self.write_sealing_key(SECRET_FILE, new)?;
        }
        if until <= Stage::Placed {
            return Ok(());
        }
        self.remove(SECRET_NEXT)
    }

    /// Removes the keys beside the configured one. False if there was none.
    pub fn forget_sealing_keys(&self) -> Result<bool, Failure> {
        let kept = [SECRET_PREVIOUS, SECRET_NEXT].iter().any(|name| self.file(name).exists());
        self.remove(SECRET_PREVIOUS)?;
        self.remove(SECRET_NEXT)?;
        Ok(kept)
    }

    /// Undoes [`Self::fix_mode`].
    pub(crate) fn forget_mode(&self) -> Result<(), Failure> {
        self.remove(MODE)
    }

    /// Removes a file. An absent one is no error.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        match std::fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::new(Reason::StateIo, format!("{}: {error}", self.file(name).display())))
            }
            _ => Ok(()),
        }
    }

    fn write_sealing_key(&self, name: &str, key: &SealingKey) -> Result<(), Failure> {
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(key.expose())));
        self.write(name, text.as_bytes(), 0o600)
    }

    /// Makes `secret.key` unless a key is configured or there already.
    pub fn create_sealing_key(&self, config: &Config) -> Result<(), Failure> {
        let given = config.secret_key_file.is_some() || Secret::load_optional(SECRET_KEY)?.is_some();
        if given || self.file(SECRET_FILE).exists() {
            return Ok(());
        }
        self.write_sealing_key(SECRET_FILE, &SealingKey::generate(&mut rand::rng()))
    }

    /// Writes an unprotected key file (development installations only).
    pub fn write_key(&self, name: &str, purpose: &str, signer: &Signer) -> Result<(), Failure> {
        self.write(name, KeyFile::open_text(purpose, signer).text().as_bytes(), 0o600)
    }

    /// Writes a Product Root public key file.
    pub fn write_root(&self, file: &PublicKeyFile) -> Result<(), Failure> {
        self.write(ROOT_KEY, file.text().as_bytes(), 0o644)
    }
}

/// Reads Product Root keys; weak, zero and malformed ones are refused.
pub fn root_keys(text: &[u8]) -> Result<KeySet, Failure> {
    let text =
        std::str::from_utf8(text).map_err(|_| Failure::new(Reason::KeyInvalid, "not a public key file"))?;
    Ok(PublicKeyFile::parse(text)?.key_set::<v1::ActivationManifest>()?)
}

fn read_sealing_key(path: &Path) -> Result<SealingKey, Failure> {
    decode_sealing_key(&Secret::read(SECRET_KEY, path)?)
}

fn decode_sealing_key(secret: &Secret) -> Result<SealingKey, Failure> {
    let refused = || {
        Failure::new(Reason::SecretMissing, format!("{SECRET_KEY} is not 32 bytes of base64, or all zero"))
    };
    let bytes = Zeroizing::new(STANDARD.decode(secret.expose()).map_err(|_| refused())?);
    SealingKey::from_slice(&bytes).ok_or_else(refused)
}

const MODE: &str = "authority-mode";

const DATABASE_URL_FILE: &str = "database.url";
const ROOT_KEY: &str = "product-root.pub";

const SECRET_FILE: &str = "secret.key";

/// The key of a rotation that is under way.
const SECRET_NEXT: &str = "secret.key.next";

/// The key before, until it is retired.
const SECRET_PREVIOUS: &str = "secret.key.previous";

/// Says that rows were sealed for this data directory, by `init` or by `rows seal`.
pub(crate) const MARKER: &str = "rows.sealed";

/// What the file says.
pub(crate) const MARKED: &[u8] = b"rows carry MACs\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Raw;

    fn config(dir: &Path) -> Config {
        let raw =
            Raw { data_dir: Some(dir.to_owned()), listen: Some("127.0.0.1:1".into()), ..Raw::default() };
        Config::resolve(&raw).unwrap()
    }

    #[test]
    fn a_directory_keeps_its_mode_for_ever() {
        for (made, other) in
            [(AuthorityMode::Dev, AuthorityMode::Strict), (AuthorityMode::Strict, AuthorityMode::Dev)]
        {
            let dir = tempfile::tempdir().unwrap();
            let data = DataDir::of(&config(&dir.path().join("data")));
            assert_eq!(data.require_mode(made).unwrap_err().reason, Reason::ConfigInvalid);
            data.create().unwrap();
            assert_eq!(data.mode().unwrap(), None);
            data.fix_mode(made).unwrap();
            assert!(data.create().and(data.fix_mode(made)).is_ok());
            assert!(data.require_mode(made).is_ok());
            assert_eq!(data.fix_mode(other).unwrap_err().reason, Reason::AuthorityModeFixed);
            assert_eq!(data.require_mode(other).unwrap_err().reason, Reason::AuthorityModeFixed);
        }
    }

    #[test]
    fn a_made_secret_key_opens_what_it_sealed_and_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let data = DataDir::of(&config);
        assert_eq!(data.sealing_key(&config).unwrap_err().reason, Reason::SecretMissing);
        data.create_sealing_key(&config).unwrap();
        let first = data.sealing_key(&config).unwrap();
        data.create_sealing_key(&config).unwrap();
        assert_eq!(first.expose(), data.sealing_key(&config).unwrap().expose());
        data.write(SECRET_FILE, STANDARD.encode([0; 32]).as_bytes(), 0o600).unwrap();
        assert_eq!(data.sealing_key(&config).unwrap_err().reason, Reason::SecretMissing);
        data.write(SECRET_FILE, STANDARD.encode([1; 32]).as_bytes(), 0o644).unwrap();
        assert_eq!(data.sealing_key(&config).unwrap_err().reason, Reason::SecretExposed);
    }

    #[test]
    fn zero_and_small_order_roots_are_refused() {
        for text in ["00".repeat(32), format!("01{}", "00".repeat(31)), "zz".into(), String::new()] {
            assert_eq!(root_keys(text.as_bytes()).err().map(|fault| fault.reason), Some(Reason::KeyInvalid));
        }
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        assert_eq!(DataDir::of(&config).roots(&config).unwrap_err().reason, Reason::SecretMissing);
    }
}
