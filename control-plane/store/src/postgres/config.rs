//! The configuration files of the private server. Every start writes them completely: operators
//! do not edit them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::account::Account;
use super::error::PostgresError;

/// What the files depend on.
pub(super) struct Configuration<'a> {
    /// The server's directory.
    pub directory: &'a Path,
    /// Where the socket goes.
    pub socket_directory: &'a Path,
    /// Account of this process, mapped to the database roles.
    pub client_account: &'a str,
    /// Databases that can be connected to: `rap`, or `all` under test.
    pub databases: &'a str,
    /// False only for throw-away servers under test.
    pub durable: bool,
}

impl Configuration<'_> {
    /// Writes the three files.
    pub(super) fn write(&self, account: &Account) -> Result<(), PostgresError> {
        self.write_file(account, "postgresql.conf", &self.server())?;
        self.write_file(
            account,
            "pg_hba.conf",
            &format!("local {} +rap_client peer map=rap\n", self.databases),
        )?;
        self.write_file(account, "pg_ident.conf", &self.identities())
    }

    fn write_file(&self, account: &Account, name: &str, text: &str) -> Result<(), PostgresError> {
        let path = self.directory.join(name);
        let fresh = self.directory.join(format!("{name}.new"));
        fs::write(&fresh, text).map_err(PostgresError::io("write", &fresh))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))
            .map_err(PostgresError::io("close", &fresh))?;
        account.own(&fresh)?;
        fs::rename(&fresh, &path).map_err(PostgresError::io("replace", &path))
    }

    fn identities(&self) -> String {
        let line = |role| format!("rap {} {role}\n", quoted_name(self.client_account));
        ["rap_owner", "rap_app", "rap_system"].map(line).concat()
    }

    fn server(&self) -> String {
        let socket = self.socket_directory.display().to_string().replace('\'', "''");
        let durability = if self.durable { "" } else { "fsync = off\nfull_page_writes = off\n" };
        format!("unix_socket_directories = '{socket}'\n{SERVER}{durability}")
    }
}

/// A name with characters that the file's syntax knows needs quotes.
fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Modest memory, no network, nothing of a statement in the log.
const SERVER: &str = "\
# Written by rap-control-plane at every start; changes are lost.
listen_addresses = ''
port = 5432
unix_socket_permissions = 0700
cluster_name = 'rap'
max_connections = 100
superuser_reserved_connections = 3
shared_buffers = 32MB
work_mem = 2MB
maintenance_work_mem = 32MB
effective_cache_size = 256MB
huge_pages = off
jit = off
max_worker_processes = 2
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
wal_level = replica
max_wal_senders = 2
min_wal_size = 32MB
max_wal_size = 512MB
checkpoint_timeout = 5min
synchronous_commit = on
autovacuum_naptime = 30s
restart_after_crash = on
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'ISO, MDY'
client_encoding = 'UTF8'
log_destination = 'stderr'
log_line_prefix = '%m [%p] '
log_min_messages = warning
log_min_error_statement = panic
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_checkpoints = off
";
