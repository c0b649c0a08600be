//! From what was written to what it means: a `Config` without an unvalidated field, or every problem at once.
//!
//! Owns defaults and bounds. Refuses to touch the network or the database.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rap_runtime::settings_layers::Problem;
use rap_runtime::telemetry;
use rap_types::Reason;

use crate::config::layers::DEFAULT_DATA_DIR;
use crate::config::listen::Listen;
use crate::config::raw::Raw;
use crate::config::settings::{AuthorityMode, ClusterDefaults, Config, DatabaseSource, Limits, Pushing};

/// [`positive`], of an option by its name.
macro_rules! positive {
    ($raw:ident.$option:ident, $default:expr, $problems:expr) => {
        positive(stringify!($option), $raw.$option, $default, $problems)
    };
}

impl Config {
    /// Gives every option its meaning, or reports all problems together.
    pub fn resolve(raw: &Raw) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let listen_text = raw.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
        let listen = listen(listen_text, &mut problems);
        let mode = mode(raw.authority_mode.as_deref(), &mut problems);
        if mode == AuthorityMode::Dev && !listen.is_private() {
            problems.push(Problem::new(
                "listen",
                format!(
                    "{}: dev mode binds only loopback, private or ULA addresses",
                    Reason::AuthorityDevAddress
                ),
            ));
        }
        let control_urls = control_urls(raw.control_urls.as_deref(), listen_text, &listen, &mut problems);
        let cluster = ClusterDefaults {
            fresh_for: millis(raw.fresh_for_ms, 300_000),
            degraded_for: millis(raw.degraded_for_ms, 12 * HOUR_MS),
            refresh_every: millis(raw.refresh_every_ms, 30_000),
            leaf_lifetime: millis(raw.leaf_lifetime_ms, 24 * HOUR_MS),
        };
        problems.extend(cluster.problems());
        let limits = limits(raw, &mut problems);
        let session_seconds = raw.session_seconds.unwrap_or(SESSION_SECONDS);
        if !(60..=SESSION_SECONDS).contains(&session_seconds) {
            problems.push(Problem::new("session_seconds", format!("must be 60 to {SESSION_SECONDS}")));
        }
        let config = Self {
            data_dir: raw.data_dir.clone().unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            listen,
            control_urls,
            mode,
            loopback: raw.loopback_endpoints.unwrap_or(mode == AuthorityMode::Dev).into(),
            root_key: raw.root_key.clone(),
            secret_key_file: raw.secret_key_file.clone(),
            database: database(raw, &mut problems),
            metrics: metrics(raw.metrics.as_deref(), &mut problems),
            log: log(raw.log.as_deref(), &mut problems),
            log_json: log_json(raw.log_format.as_deref(), &mut problems),
            limits,
            session: Duration::from_secs(session_seconds),
            cluster,
            pushing: Pushing {
                head_within: positive!(raw.head_within_ms, 60_000, &mut problems),
                outbox_poll: positive!(raw.outbox_poll_ms, 2_000, &mut problems),
                rows_check: rows_check(raw.rows_check_ms, &mut problems),
                write_timeout: positive!(raw.node_write_timeout_ms, 10_000, &mut problems),
                report_interval: positive!(raw.report_interval_ms, 15_000, &mut problems),
                reconnect_window: positive!(raw.reconnect_window_ms, 5_000, &mut problems),
            },
        };
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

fn listen(text: &str, problems: &mut Vec<Problem>) -> Listen {
    let listen = Listen::parse(text);
    if listen.is_none() {
        problems.push(Problem::new("listen", format!("`{text}` is not HOST:PORT")));
    }
    if matches!(&listen, Some(Listen::Name(host, _)) if host == PLACEHOLDER) {
        problems.push(Problem::new("listen", NOT_A_HOST));
    }
    listen.unwrap_or_else(|| Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443)))
}

fn control_urls(
    given: Option<&[String]>,
    listen_text: &str,
    listen: &Listen,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let Some(given) = given.filter(|urls| !urls.is_empty()) else {
        if listen_text.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified()) {
            problems.push(Problem::new(
                "control_urls",
                "needed when listen names no host: how do nodes reach it?",
            ));
        }
        let host = listen_text.rsplit_once(':').map_or("localhost", |(host, _)| host);
        return vec![format!("https://{host}:{}", listen.port())];
    };
    for url in given {
        let plain = url.parse::<http::Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("https")
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.path_and_query().is_none_or(|path| path == "/")
                && !url.contains('@')
        });
        if url.parse::<http::Uri>().is_ok_and(|uri| uri.host() == Some(PLACEHOLDER)) {
            problems.push(Problem::new("control_urls", NOT_A_HOST));
        }
        if !plain {
            problems.push(Problem::new("control_urls", format!("`{url}` is not https://HOST[:PORT]")));
        }
    }
    given.iter().map(|url| url.trim_end_matches('/').to_owned()).collect()
}

fn mode(text: Option<&str>, problems: &mut Vec<Problem>) -> AuthorityMode {
    match text {
        None | Some("strict") => AuthorityMode::Strict,
        Some("dev") => AuthorityMode::Dev,
        Some(other) => {
            problems.push(Problem::new("authority_mode", format!("`{other}` is neither strict nor dev")));
            AuthorityMode::Strict
        }
    }
}

fn database(raw: &Raw, problems: &mut Vec<Problem>) -> DatabaseSource {
    match (&raw.database_url, &raw.database_url_file) {
        (None, None) => DatabaseSource::Embedded,
        (None, Some(path)) => DatabaseSource::UrlFile(path.clone()),
        (Some(url), None) => {
            if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
                problems.push(Problem::new("database_url", "is not a postgres:// URL"));
            }
            DatabaseSource::Url(url.clone())
        }
        (Some(_), Some(_)) => {
            problems.push(Problem::new("database_url", "give either database_url or database_url_file"));
            DatabaseSource::Embedded
        }
    }
}

fn metrics(text: Option<&str>, problems: &mut Vec<Problem>) -> Option<SocketAddr> {
    match text {
        None => Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
        Some("off") => None,
        Some(text) => {
            let address = text.parse().ok();
            if address.is_none() {
                problems.push(Problem::new("metrics", format!("`{text}` is neither ADDRESS:PORT nor off")));
            }
            address
        }
    }
}

fn log(text: Option<&str>, problems: &mut Vec<Problem>) -> String {
    let text = text.unwrap_or("info,sqlx=warn");
    if let Err(error) = telemetry::check_filter(text) {
        problems.push(Problem::new("log", error));
    }
    text.to_owned()
}

fn log_json(text: Option<&str>, problems: &mut Vec<Problem>) -> bool {
    match text {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            problems.push(Problem::new("log_format", format!("`{other}` is neither text nor json")));
            false
        }
    }
}

fn limits(raw: &Raw, problems: &mut Vec<Problem>) -> Limits {
    let mut count = |at: &str, value: Option<u32>, default: u32| {
        if value == Some(0) {
            problems.push(Problem::new(at, "must be at least 1"));
        }
        value.unwrap_or(default)
    };
    Limits {
        unauthenticated_per_second: count("unauthenticated_per_second", raw.unauthenticated_per_second, 20),
        unauthenticated_burst: count("unauthenticated_burst", raw.unauthenticated_burst, 100),
        handshakes_per_source: count("handshakes_per_source", raw.handshakes_per_source, 64),
        handshakes_total: count("handshakes_total", raw.handshakes_total, 1024),
        connections: count("connections", raw.connections, 16_384),
        connections_per_source: count("connections_per_source", raw.connections_per_source, 1024),
        handshake_timeout: positive!(raw.handshake_timeout_ms, 5_000, problems),
        request_timeout: positive!(raw.request_timeout_ms, 10_000, problems),
        body_timeout: positive!(raw.body_timeout_ms, 5_000, problems),
    }
}

fn positive(at: &str, value: Option<impl Into<u64>>, default: u64, problems: &mut Vec<Problem>) -> Duration {
    let value = value.map(Into::into);
    if !(1..=HOUR_MS).contains(&value.unwrap_or(default)) {
        problems.push(Problem::new(at, format!("must be 1 to {HOUR_MS}")));
    }
    millis(value, default)
}

fn rows_check(value: Option<u64>, problems: &mut Vec<Problem>) -> Duration {
    if value.is_some_and(|value| value > HOUR_MS) {
        problems.push(Problem::new("rows_check_ms", format!("must be 0 to {HOUR_MS}")));
    }
    millis(value, 60_000)
}

fn millis(value: Option<u64>, default: u64) -> Duration {
    Duration::from_millis(value.unwrap_or(default))
}

/// `[::]` takes IPv4, too.
const DEFAULT_LISTEN: &str = "[::]:8443";

/// As documents write it.
const PLACEHOLDER: &str = "HOST";

const NOT_A_HOST: &str = "HOST stands for the name or address of this host: write that";

const HOUR_MS: u64 = 3_600_000;

const SESSION_SECONDS: u64 = 12 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(change: impl FnOnce(&mut Raw)) -> Result<Config, String> {
        let mut raw = Raw { listen: Some("127.0.0.1:8443".into()), ..Raw::default() };
        change(&mut raw);
        Config::resolve(&raw)
            .map_err(|problems| problems.iter().map(|problem| format!("{problem}\n")).collect())
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let config = resolve(|_| ()).unwrap();
        assert_eq!(config.mode, AuthorityMode::Strict);
        assert_eq!(config.control_urls, ["https://127.0.0.1:8443"]);
        assert_eq!(config.cluster.fresh_for, Duration::from_secs(300));
        assert_eq!(config.limits.unauthenticated_per_second, 20);
        assert_eq!(config.metrics, Some("127.0.0.1:9464".parse().unwrap()));
    }

    #[test]
    fn all_problems_are_reported_together() {
        let text = resolve(|raw| {
            raw.listen = Some("nonsense".into());
            raw.authority_mode = Some("lax".into());
            raw.degraded_for_ms = Some(13 * HOUR_MS);
            raw.handshakes_total = Some(0);
            raw.session_seconds = Some(43_201);
            raw.control_urls = Some(vec!["http://x".into()]);
        })
        .unwrap_err();
        let options = [
            "listen",
            "authority_mode",
            "degraded_for_ms",
            "handshakes_total",
            "session_seconds",
            "control_urls",
        ];
        for word in options {
            assert!(text.contains(word), "{word} missing in {text}");
        }
    }

    #[test]
    fn dev_mode_binds_only_private_addresses() {
        for listen in ["127.0.0.1:1", "10.1.2.3:1", "192.168.0.1:1", "[::1]:1", "[fd00::1]:1", "localhost:1"]
        {
            let config = resolve(|raw| {
                raw.listen = Some(listen.into());
                raw.authority_mode = Some("dev".into());
            });
            assert!(config.is_ok(), "{listen}: {config:?}");
        }
        for listen in ["0.0.0.0:1", "8.8.8.8:1", "[::]:1", "[2001:db8::1]:1", "example.org:1"] {
            let text = resolve(|raw| {
                raw.listen = Some(listen.into());
                raw.authority_mode = Some("dev".into());
                raw.control_urls = Some(vec!["https://example.org".into()]);
            })
            .unwrap_err();
            assert!(text.contains("authority.dev_address"), "{listen}: {text}");
        }
    }

    #[test]
    fn the_placeholder_of_documents_is_no_host() {
        for (listen, url) in [("HOST:8443", "https://a"), ("[::]:8443", "https://HOST:8443")] {
            let text = resolve(|raw| {
                raw.listen = Some(listen.into());
                raw.control_urls = Some(vec![url.into()]);
            })
            .unwrap_err();
            assert!(text.contains("HOST stands for"), "{text}");
        }
    }

    #[test]
    fn degraded_for_up_to_half_the_leaf_lifetime_passes() {
        assert!(resolve(|raw| raw.degraded_for_ms = Some(12 * HOUR_MS)).is_ok());
        assert!(resolve(|raw| raw.degraded_for_ms = Some(12 * HOUR_MS + 1)).is_err());
    }

    #[test]
    fn a_database_url_is_never_printed() {
        let config = resolve(|raw| raw.database_url = Some("postgres://u:hunter2@h/d".into())).unwrap();
        assert!(!format!("{config:?}{:?}", config.effective()).contains("hunter2"));
    }

    #[test]
    fn effective_names_every_option() {
        let options = serde_json::to_value(Raw::default()).unwrap();
        let effective = resolve(|_| ()).unwrap().effective();
        for key in options.as_object().unwrap().keys() {
            let shown = effective.iter().any(|(name, _)| name == key);
            assert!(shown || key == "database_url_file", "{key}");
        }
    }
}
