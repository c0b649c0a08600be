//! The operating system account of PostgreSQL, and the folders that it may enter.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Gid, Uid, User};
use tokio::process::Command;

use super::PostgresError;

/// An unprivileged account: the named one when this process is root, this process's own otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Name, as peer authentication sees it.
    pub name: String,
    uid: Uid,
    gid: Gid,
    switch: bool,
}

impl Account {
    /// Looks the account up; `unprivileged` is used only by root.
    pub fn resolve(unprivileged: &str) -> Result<Self, PostgresError> {
        let effective = Uid::effective();
        let user = if effective.is_root() {
            User::from_name(unprivileged).ok().flatten().filter(|user| !user.uid.is_root())
        } else {
            User::from_uid(effective).ok().flatten()
        };
        let Some(user) = user else {
            return Err(PostgresError::AccountMissing(unprivileged.to_owned()));
        };
        Ok(Self { name: user.name, uid: user.uid, gid: user.gid, switch: effective.is_root() })
    }

    /// Name of the account this process itself runs as.
    pub(super) fn own_name() -> Result<String, PostgresError> {
        let uid = Uid::effective();
        let user = User::from_uid(uid).ok().flatten();
        user.map(|user| user.name).ok_or_else(|| PostgresError::AccountMissing(uid.to_string()))
    }

    /// A command that runs `program` as this account with a bare environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").env("PATH", "/usr/bin:/bin").current_dir("/");
        if self.switch {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        command
    }

    /// Gives `path` to this account.
    pub(super) fn own(&self, path: &Path) -> Result<(), PostgresError> {
        if self.switch {
            std::os::unix::fs::chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
                .map_err(PostgresError::io("give to the PostgreSQL account", path))?;
        }
        Ok(())
    }

    /// True if this account owns what `metadata` describes.
    pub(super) fn owns(&self, metadata: &Metadata) -> bool {
        metadata.uid() == self.uid.as_raw()
    }

    /// Makes a directory that only this account (and root) may enter; an existing one is taken only
    /// if it already is one.
    pub(super) fn private_directory(&self, path: &Path) -> Result<(), PostgresError> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.own(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = fs::symlink_metadata(path).map_err(PostgresError::io("look at", path))?;
                let private = metadata.is_dir() && metadata.mode() & 0o077 == 0;
                if private && self.owns(&metadata) {
                    Ok(())
                } else {
                    Err(PostgresError::SocketDirectory(path.to_owned()))
                }
            }
            Err(error) => Err(PostgresError::io("make", path)(error)),
        }
    }

    /// Lets this account pass through `directory` (its files stay as closed as they are), and checks
    /// that it can pass through every parent.
    pub(super) fn arrange_passage(&self, directory: &Path) -> Result<(), PostgresError> {
        if !self.switch {
            return Ok(());
        }
        let metadata = fs::metadata(directory).map_err(PostgresError::io("look at", directory))?;
        if !self.may_enter(&metadata) && metadata.uid() == Uid::effective().as_raw() {
            let mode = metadata.permissions().mode() | 0o001;
            fs::set_permissions(directory, fs::Permissions::from_mode(mode))
                .map_err(PostgresError::io("open for passage", directory))?;
        }
        for parent in directory.ancestors() {
            let metadata = fs::metadata(parent).map_err(PostgresError::io("look at", parent))?;
            if !self.may_enter(&metadata) {
                return Err(PostgresError::Unreachable {
                    account: self.name.clone(),
                    directory: parent.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn may_enter(&self, metadata: &Metadata) -> bool {
        let bit = if self.owns(metadata) {
            0o100
        } else if metadata.gid() == self.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        metadata.mode() & bit != 0
    }
}
