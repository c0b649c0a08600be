//! URLs of the database. Owns which parameters they may have. A refusal repeats nothing of a URL: a password with a
//! character that has a meaning in URLs can stand in any part of it.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::{Result, StoreError};

/// The options of a `postgres://` URL.
///
/// # Errors
/// `config.invalid` for a URL that does not parse, and for a parameter that is unknown or has a value that is none.
pub(crate) fn parse(url: &str) -> Result<PgConnectOptions> {
    let rest = ["postgres://", "postgresql://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or_else(|| StoreError::Url("it does not begin with postgres://".to_owned()))?;
    if rest.contains('#') {
        return Err(StoreError::Url("it contains #; write %23 in a password".to_owned()));
    }
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    for (index, parameter) in parameters.split('&').filter(|part| !part.is_empty()).enumerate() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let number = index + 1;
        if !PARAMETERS.contains(&name) {
            let text = format!(
                "parameter {number} is not known; known are {}; write %3F and %26 for ? and & in a password",
                PARAMETERS.join(", ")
            );
            return Err(StoreError::Url(text));
        }
        if name == "sslmode" && !SSL_MODES.contains(&value) {
            let text = format!("parameter {number}, sslmode, is none of {}", SSL_MODES.join(", "));
            return Err(StoreError::Url(text));
        }
    }
    PgConnectOptions::from_str(url).map_err(|_| {
        StoreError::Url("user, password, host, port or database do not parse; percent-encode them".to_owned())
    })
}

/// Where the options lead: `db.example:5432`, or the socket's folder. Names no user and no password.
pub(crate) fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

const PARAMETERS: [&str; 9] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "dbname", "user", "password"];

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_url_repeats_nothing_of_itself() {
        let urls = [
            "hunter2",
            "mysql://u:hunter2@h/d",
            "postgres://u:a?hunter2@h/d",
            "postgres://u:a&hunter2=b@h/d?hunter2=1",
            "postgres://u:pw@h/d?sslmode=hunter2",
            "postgres://u:a#hunter2@h/d",
            "postgres://u:pw@h:hunter2/d",
            "postgres://u:pw@h/d?port=hunter2",
            "postgres://u:pw@h/d?options=hunter2",
            "postgres://u:pw@h/d?sslmode=require&application_name=hunter2",
        ];
        for url in urls {
            let error = parse(url).unwrap_err();
            assert_eq!(error.reason().code(), "config.invalid", "{url}");
            let mut text = format!("{error} {error:?}");
            let mut source = std::error::Error::source(&error);
            while let Some(next) = source {
                text.push_str(&format!("{next} {next:?}"));
                source = next.source();
            }
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
    }

    #[test]
    fn every_known_parameter_is_taken() {
        let url =
            "postgres://u:p%3Fw@db.example:5433/rap?sslmode=verify-full&sslrootcert=/ca.pem&dbname=other";
        let options = parse(url).unwrap();
        assert_eq!(options.get_database(), Some("other"));
        assert_eq!(place(&options), "db.example:5433");
        let socket = parse("postgresql:///rap?host=/run/postgresql&user=rap").unwrap();
        assert_eq!(place(&socket), "/run/postgresql");
    }
}
