//! The configuration as `config --effective` prints it.

use std::path::PathBuf;
use std::time::Duration;

use rap_types::sense::Loopback;

use crate::config::settings::{Config, DatabaseSource};

impl Config {
    /// Every option with the value in force, as `config --effective` prints it. No secret is in it.
    pub fn effective(&self) -> Vec<(&'static str, String)> {
        let ms = |duration: Duration| duration.as_millis().to_string();
        let path = |path: &Option<PathBuf>, name: &str| {
            path.clone().unwrap_or_else(|| self.data_dir.join(name)).display().to_string()
        };
        vec![
            ("data_dir", self.data_dir.display().to_string()),
            ("listen", self.listen.to_string()),
            ("control_urls", self.control_urls.join(",")),
            ("authority_mode", self.mode.as_str().into()),
            ("loopback_endpoints", (self.loopback == Loopback::Allowed).to_string()),
            ("root_key", path(&self.root_key, "product-root.pub")),
            ("secret_key_file", path(&self.secret_key_file, "secret.key")),
            ("database_url", database(&self.database)),
            ("metrics", self.metrics.map_or("off".into(), |address| address.to_string())),
            ("log", self.log.clone()),
            ("log_format", if self.log_json { "json" } else { "text" }.into()),
            ("unauthenticated_per_second", self.limits.unauthenticated_per_second.to_string()),
            ("unauthenticated_burst", self.limits.unauthenticated_burst.to_string()),
            ("handshakes_per_source", self.limits.handshakes_per_source.to_string()),
            ("handshakes_total", self.limits.handshakes_total.to_string()),
            ("handshake_timeout_ms", ms(self.limits.handshake_timeout)),
            ("connections", self.limits.connections.to_string()),
            ("connections_per_source", self.limits.connections_per_source.to_string()),
            ("request_timeout_ms", ms(self.limits.request_timeout)),
            ("body_timeout_ms", ms(self.limits.body_timeout)),
            ("session_seconds", self.session.as_secs().to_string()),
            ("fresh_for_ms", ms(self.cluster.fresh_for)),
            ("degraded_for_ms", ms(self.cluster.degraded_for)),
            ("refresh_every_ms", ms(self.cluster.refresh_every)),
            ("leaf_lifetime_ms", ms(self.cluster.leaf_lifetime)),
            ("head_within_ms", ms(self.pushing.head_within)),
            ("outbox_poll_ms", ms(self.pushing.outbox_poll)),
            ("rows_check_ms", ms(self.pushing.rows_check)),
            ("node_write_timeout_ms", ms(self.pushing.write_timeout)),
            ("report_interval_ms", ms(self.pushing.report_interval)),
            ("reconnect_window_ms", ms(self.pushing.reconnect_window)),
        ]
    }
}

/// Where the rows are, without the password that a URL holds.
fn database(database: &DatabaseSource) -> String {
    match database {
        DatabaseSource::Embedded => "private".to_owned(),
        DatabaseSource::Url(_) => "given, not shown".to_owned(),
        DatabaseSource::UrlFile(path) => format!("in {}", path.display()),
    }
}
