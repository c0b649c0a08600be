//! Contexts: which control planes this operator knows, and the session with each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rap_runtime::exit::Fault;
use rap_runtime::files::{create_private_dir, read_secret, write_atomic};
use rap_types::{Digest, InstallationId, Reason};
use serde::{Deserialize, Serialize};

use crate::args::Global;

/// The contexts file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// Context that commands use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// Contexts by name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One control plane as this operator knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Control URL.
    pub(crate) url: String,
    /// SHA-256 of the installation TLS CA's SPKI.
    pub(crate) tls_ca_pin: Digest,
    /// Installation.
    pub(crate) installation_id: InstallationId,
    /// Cluster that commands are about unless one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
    /// Key file to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<Session>,
}

/// A session. Its secret prints nothing.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// Bearer secret.
    pub(crate) secret: String,
    /// Unix milliseconds.
    pub(crate) expires_at_ms: i64,
}

rap_types::debug_as!(Session, "Session(..)");

impl Contexts {
    /// Reads the file; none is an empty one. It holds sessions: a file that others can read is refused.
    ///
    /// # Errors
    /// `secret.exposed`, `config.invalid`, those of reading.
    pub(crate) fn load(global: &Global) -> anyhow::Result<Self> {
        let path = path(global)?;
        let bytes = match read_secret(&path, FILE_CAP) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| Fault::new(Reason::ConfigInvalid, format!("{}: not a text file", path.display())))?;
        toml::from_str(&text).map_err(|error| {
            Fault::new(Reason::ConfigInvalid, format!("{}: {}", path.display(), unquoted(error.message())))
                .into()
        })
    }

    /// Writes the file (0600), whole or not at all.
    pub(crate) fn save(&self, global: &Global) -> anyhow::Result<()> {
        let path = path(global)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            create_private_dir(parent)?;
        }
        write_atomic(&path, toml::to_string_pretty(self)?.as_bytes(), 0o600)?;
        Ok(())
    }

    /// A file of this operator beside the contexts.
    pub(crate) fn beside(global: &Global, name: &str) -> anyhow::Result<PathBuf> {
        Ok(path(global)?.with_file_name(name))
    }

    /// Name of the context to use.
    pub(crate) fn selected(&self, global: &Global) -> Option<String> {
        global.context.clone().or_else(|| self.current.clone())
    }

    /// The context to use.
    pub(crate) fn select(&self, global: &Global) -> anyhow::Result<(String, Context)> {
        let path = path(global)?;
        let none = if path.exists() { "no context is chosen in" } else { "there is no contexts file" };
        let missing = || {
            let log_in = "log in with: rapctl login https://HOST:8443 --activate act-*.manifest";
            Fault::new(Reason::SessionMissing, format!("{none} {}; {log_in}", path.display()))
        };
        let name = self.selected(global).ok_or_else(missing)?;
        let unknown = || format!("no context `{name}` in {}; rapctl context list shows them", path.display());
        let found = self.contexts.get(&name);
        let context = found.ok_or_else(|| Fault::new(Reason::ResourceNotFound, unknown()))?.clone();
        Ok((name, context))
    }
}

/// Refuses a name that is none; files beside the contexts carry it.
pub(crate) fn nameable(name: &str) -> Result<(), Fault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-@[]".contains(c);
    if (1..=128).contains(&name.len()) && !name.starts_with('.') && name.chars().all(allowed) {
        return Ok(());
    }
    let text = "a context's name has 1 to 128 letters, digits and ._:-@[], and does not begin with a dot";
    Err(Fault::new(Reason::RequestInvalid, text))
}

/// What is wrong with a contexts file, without the value that is wrong: it may be a session.
pub(crate) fn unquoted(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\u{2026}{}", &message[..=first], &message[last..])
        }
        _ => message.to_owned(),
    }
}

fn path(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(path) = &global.config {
        return Ok(path.clone());
    }
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
        .ok_or(Fault::new(Reason::ConfigInvalid, "neither XDG_CONFIG_HOME nor HOME is set"))?;
    Ok(home.join("rap/contexts.toml"))
}

/// Most bytes of a contexts file.
const FILE_CAP: usize = 1024 * 1024;
