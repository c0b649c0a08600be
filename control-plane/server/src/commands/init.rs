//! First run: data directory, keys, database, installation; in dev mode also root, owner, activation.
//!
//! Owns what is made once. A second run changes nothing and says so; a run that failed can be repeated.

use std::path::{Path, PathBuf};

use rap_authority::{AuditKey, FloorOf, RowKeys, SealingKey, answer_activation_request, first_role_grant};
use rap_contract::{KeyFile, PublicKey, PublicKeyFile, Signer};
use rap_runtime::{Clock, files};
use rap_store::{AuditWriter, Store, installation_insert, installation_read};
use rap_types::{InstallationId, KeyId, Reason};
use zeroize::Zeroizing;

use crate::acts::activate::activate_dev;
use crate::commands::replace::undo;
use crate::config::layers::SETTINGS_FILE;
use crate::config::settings::{AuthorityMode, Config, DatabaseSource};
use crate::data_dir::{DataDir, root_keys};
use crate::database::opened::OpenDatabase;
use crate::database::replica_floors::{FLOORS_FILE, FloorFile};
use crate::failure::Failure;
use crate::keys::installation::Installation;

/// What `init` made.
#[derive(Debug, serde::Serialize)]
pub struct Made {
    /// `rap.init.v1`.
    pub schema: &'static str,
    /// The installation.
    pub installation_id: InstallationId,
    /// strict or dev.
    pub mode: &'static str,
    /// Where nodes and operators will reach it.
    pub control_urls: Vec<String>,
    /// Fingerprint of the installation authority, which the Product Root is to vouch for.
    pub installation_authority: String,
    /// The same in words.
    pub installation_authority_words: String,
    /// Fingerprints of the Product Root.
    pub product_root: Vec<String>,
    /// The activation request, in strict mode.
    pub activation_request: Option<PathBuf>,
    /// The activation manifest, in dev mode.
    pub activation_manifest: Option<PathBuf>,
    /// The owner's key, in dev mode.
    pub owner_key: Option<PathBuf>,
    /// What to run next.
    pub next: String,
}

/// Makes what must exist before anything is trusted: directory, mode, root key, secret key.
pub fn prepare(config: &Config) -> Result<DataDir, Failure> {
    let root = checked_root(config, false)?;
    make_files(config, root.as_deref())
}

/// The root key file that `init` will copy. Looked at before anything is made, and so are the mode and the URLs.
fn checked_root(config: &Config, replace: bool) -> Result<Option<Vec<u8>>, Failure> {
    let data = DataDir::of(config);
    if !replace && data.mode()?.is_some_and(|mode| mode != config.mode) {
        data.require_mode(config.mode)?;
    }
    let root = match (config.mode, &config.root_key) {
        (AuthorityMode::Strict, None)
            if data.mode()?.is_none() || !data.file("product-root.pub").exists() =>
        {
            return Err(Failure::new(Reason::SecretMissing, "strict mode needs --root-key FILE"));
        }
        (AuthorityMode::Dev, Some(_)) => {
            return Err(Failure::new(
                Reason::ConfigInvalid,
                "dev mode makes its own root; leave out --root-key",
            ));
        }
        (AuthorityMode::Strict, Some(path)) => {
            let text = files::read_capped(path, 16 * 1024)?;
            root_keys(&text)?;
            Some(text)
        }
        (AuthorityMode::Strict | AuthorityMode::Dev, None) => None,
    };
    if let Some(url) = config.control_urls.iter().find(|url| url.ends_with(":0")) {
        // Tokens and the activation request will carry it.
        let text = format!("control_urls: {url} has no port; give --control-url or a port to --listen");
        return Err(Failure::new(Reason::ConfigInvalid, text));
    }
    Ok(root)
}

fn make_files(config: &Config, root: Option<&[u8]>) -> Result<DataDir, Failure> {
    let data = DataDir::of(config);
    data.create()?;
    if let Some(text) = root {
        data.write("product-root.pub", text, 0o644)?;
    }
    data.create_sealing_key(config)?;
    data.sealing_key(config)?;
    Ok(data)
}

/// The whole of the command: files, database, installation, with an installation authority key that may have been
/// made elsewhere. A database that somebody else runs is looked at before any file is made.
/// `replace` undoes an installation first that is not activated.
pub(crate) async fn run(
    config: &Config,
    here: &Path,
    imported: Option<Signer>,
    replace: bool,
) -> Result<Made, Failure> {
    let root = checked_root(config, replace)?;
    let data = DataDir::of(config);
    let database = if config.database == DatabaseSource::Embedded {
        if replace {
            data.create()?;
        } else {
            make_files(config, root.as_deref())?;
        }
        OpenDatabase::open(config).await?
    } else {
        let database = OpenDatabase::open(config).await?;
        require_key_of_installation(config, &database).await?;
        database
    };
    let make = async |database: &OpenDatabase| {
        if replace {
            undo(&data, database).await?;
        }
        make_files(config, root.as_deref())?;
        init_with(config, &data, database, here, imported).await
    };
    database.during(make).await
}

/// Refuses a database that holds an installation unless the key encryption key of that installation is at hand: a new
/// one would open nothing of it.
async fn require_key_of_installation(config: &Config, database: &OpenDatabase) -> Result<(), Failure> {
    let read = async |store: &Store| {
        let mut transaction = store.system().begin().await?;
        Ok(installation_read(&mut transaction).await?)
    };
    let Some(known) = database.with_store(read).await? else { return Ok(()) };
    let place = database.target.place();
    let refused = |what: &str| {
        let text = format!(
            "the database at {place} holds installation {}, and {what}; give its key with --secret-key-file, or \
             another database",
            known.installation.installation
        );
        Failure::new(Reason::ResourceExists, text)
    };
    let key = match DataDir::of(config).sealing_key(config) {
        Ok(key) => key,
        Err(fault) if fault.reason == Reason::SecretMissing && config.secret_key_file.is_none() => {
            return Err(refused("this host has no key encryption key"));
        }
        Err(fault) => return Err(fault),
    };
    if Installation::is_sealed_by(&known, &key) {
        return Ok(());
    }
    Err(refused("the key encryption key of this host does not open it"))
}

/// As [`init`], with an installation authority key that was made elsewhere.
async fn init_with(
    config: &Config,
    data: &DataDir,
    database: &OpenDatabase,
    here: &Path,
    imported: Option<Signer>,
) -> Result<Made, Failure> {
    let kek = data.sealing_key(config)?;
    database.with_store(async |store| make(config, data, store, &kek, here, imported).await).await
}

/// An installation authority key from an unprotected key file that only its owner may read.
///
/// # Errors
/// `key.invalid`, `key.purpose`, `secret.exposed`, `secret.missing`, those of reading.
pub(crate) fn imported_key(path: &Path) -> Result<Signer, Failure> {
    let at = |reason, what: &str| Failure::new(reason, format!("{}: {what}", path.display()));
    let bytes = Zeroizing::new(
        files::read_secret(path, 16 * 1024).map_err(|error| at(error.reason(), &error.without_path()))?,
    );
    let text = std::str::from_utf8(&bytes).map_err(|_| at(Reason::KeyInvalid, "not a key file"))?;
    let file = KeyFile::parse(text).map_err(|reject| at(reject.reason, reject.what))?;
    if file.purpose != INSTALLATION_PURPOSE {
        return Err(at(Reason::KeyPurpose, "not a key for installation-authority"));
    }
    let key = file.unprotected().map_err(|reject| at(reject.reason, reject.what))?;
    key.ok_or_else(|| at(Reason::SecretMissing, "protected by a passphrase; make it with --no-passphrase"))
}

/// Makes the installation in the database; the activation request is put into `here`, too.
pub async fn init(
    config: &Config,
    data: &DataDir,
    database: &OpenDatabase,
    here: &Path,
) -> Result<Made, Failure> {
    init_with(config, data, database, here, None).await
}

async fn make(
    config: &Config,
    data: &DataDir,
    store: &Store,
    kek: &SealingKey,
    here: &Path,
    imported: Option<Signer>,
) -> Result<Made, Failure> {
    let finished = data.file(SETTINGS_FILE).exists();
    let mut transaction = store.system().begin().await?;
    let known = installation_read(&mut transaction).await?;
    if known.is_some() && finished {
        return Err(Failure::new(
            Reason::ResourceExists,
            format!("{} is initialised", data.path().display()),
        ));
    }
    let now = Clock::new().now().wall;
    let dev = config.mode == AuthorityMode::Dev;
    if let Some(row) = known.as_ref().filter(|row| row.installation.dev != dev) {
        let made = if row.installation.dev { AuthorityMode::Dev } else { AuthorityMode::Strict };
        let text = format!("the database holds an installation of {} mode", made.as_str());
        return Err(Failure::new(Reason::AuthorityModeFixed, text));
    }
    let floors = FloorFile::open(data.file(FLOORS_FILE))?;
    let mut floor = None;
    // A run that was killed is taken up where it stopped.
    let (row, request) = match known {
        Some(row) => (row.installation.clone(), row.installation.activation_request),
        None => {
            let birth = Installation::create(dev, &config.control_urls, kek, now, imported)?;
            installation_insert(&mut transaction, &birth.row).await?;
            // Only here: who comes to an installation that is there does not know what was signed.
            floors.begin()?;
            (birth.row.clone(), birth.row.activation_request)
        }
    };
    let authority = KeyId::of(&row.public_key);
    let mut made = Made {
        schema: "rap.init.v1",
        installation_id: row.installation,
        installation_authority: authority.to_string(),
        installation_authority_words: authority.words(),
        product_root: Vec::new(),
        mode: config.mode.as_str(),
        control_urls: config.control_urls.clone(),
        activation_request: None,
        activation_manifest: None,
        owner_key: None,
        next: "rap-control-plane serve".to_owned(),
    };
    if dev {
        let (manifest, owner) = dev_owner(data, &request, now)?;
        let (installation, _) = Installation::load(&mut transaction, dev, kek, data.roots(config)?).await?;
        let first = first_role_grant(&installation.role_grant_scope(), DEV_OWNER, owner, now)?;
        let pen = AuditWriter::new(AuditKey::of(kek, [], row.installation));
        let rows = RowKeys::of_installation(row.installation, kek);
        activate_dev(&mut transaction, &rows, &pen, &manifest, &first, now).await?;
        floor = Some(first.set.at);
        data.write("dev.manifest", &manifest, 0o644)?;
        made.activation_manifest = Some(data.file("dev.manifest"));
        made.owner_key = Some(data.file("dev.owner.key"));
    } else {
        let path = write_request(data, &request, here)?;
        made.next = format!("rapctl root sign-activation {} --owner owner@example.com", path.display());
        made.activation_request = Some(path);
    }
    made.product_root = data.roots(config)?.ids().map(|id| id.to_string()).collect();
    transaction.commit().await?;
    if let Some(floor) = floor {
        floors.raise(FloorOf::GrantSet, floor).await?;
    }
    // Last: until the installation exists, a run that failed may be repeated in either mode.
    data.fix_mode(config.mode)?;
    data.write(crate::data_dir::MARKER, crate::data_dir::MARKED, 0o600)?;
    data.write_settings(config)?;
    Ok(made)
}

/// A root and an owner that live in the data directory, and the manifest they sign.
fn dev_owner(data: &DataDir, request: &[u8], now: rap_types::Wall) -> Result<(Vec<u8>, PublicKey), Failure> {
    let (root, owner) = (Signer::generate(&mut rand::rng()), Signer::generate(&mut rand::rng()));
    let manifest = answer_activation_request(request, &root, DEV_OWNER, &owner.public(), now)?;
    data.write_key("dev-root.key", "product-root", &root)?;
    data.write_root(&PublicKeyFile::of("product-root", root.public()))?;
    data.write_key("dev.owner.key", "owner", &owner)?;
    Ok((manifest, owner.public()))
}

/// Writes the request beside the caller, where it is to be carried from, and keeps a copy.
fn write_request(data: &DataDir, request: &[u8], here: &Path) -> Result<PathBuf, Failure> {
    let name = format!("act-{}.req", &rap_types::Digest::of(&[request]).to_string()[..8]);
    data.write(&name, request, 0o644)?;
    let here = here.join(&name);
    match files::write_atomic(&here, request, 0o644) {
        Ok(()) => Ok(here),
        Err(_) => Ok(data.file(&name)),
    }
}

const DEV_OWNER: &str = "dev-owner";

const INSTALLATION_PURPOSE: &str = "installation-authority";
