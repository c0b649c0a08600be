//! `join`: from a token to a membership on disk, in the foreground, resumable at every step.
//!
//! Owns the conversation with the person. Refuses to decide: `rap_trust::Applicant` does.

mod former;
mod host;
mod prepared;
mod progress;
mod rejoin;
mod session;
mod told;

use std::io::Read as _;

use rap_contract::JoinTokenText;
use rap_runtime::command_line::Format;
use rap_runtime::{Fault, Secret, telemetry};
use rap_types::{ExitCode, Reason};
use zeroize::Zeroizing;

pub(super) use self::host::remove_bounds;
use self::prepared::Prepared;
use self::session::Session;
use self::told::{say_joined, say_who};
use crate::blocking::blocking;
use crate::cli::Join;
use crate::config::Config;

/// Joins, or resumes a join; with `--rejoin` as the node that this host was.
pub(super) async fn run(config: &Config, join: Join, form: Format) -> Result<ExitCode, Fault> {
    // A command says what it does; a log is written only if `RAP_LOG` asks for one.
    telemetry::init(config.log_format, "off").map_err(Fault::of(Reason::ConfigInvalid))?;
    let rejoin = join.rejoin;
    let text = blocking(move || read_token(&join)).await?;
    if rejoin {
        return rejoin::run(config, text, form).await;
    }
    let settings = config.clone();
    let prepared = blocking(move || Prepared::open(&settings, text)).await?;
    say_who(&prepared)?;
    let (node, dir) = Session::start(config, prepared, false)?.run().await.map_err(|failed| failed.fault)?;
    drop(dir);
    say_joined(config, &node, form, None).await
}

fn read_token(join: &Join) -> Result<Option<JoinTokenText>, Fault> {
    let text = match (&join.token, &join.token_file) {
        (Some(dash), _) if dash == "-" => {
            let mut text = Zeroizing::new(String::new());
            let read = std::io::stdin().take(TOKEN_CAP).read_to_string(&mut text);
            read.map_err(|error| Fault::new(Reason::TokenMalformed, format!("standard input: {error}")))?;
            Some(text)
        }
        (Some(token), _) => Some(Zeroizing::new(token.clone())),
        (None, Some(path)) => {
            let secret = Secret::read("join token", path)?;
            let text = secret.expose_text().map(|text| Zeroizing::new(text.to_owned()));
            Some(text.ok_or(Fault::new(Reason::TokenMalformed, "the token file is not text"))?)
        }
        (None, None) => Secret::load_optional("RAP_JOIN_TOKEN")?
            .and_then(|secret| secret.expose_text().map(|text| Zeroizing::new(text.to_owned()))),
    };
    Ok(text.map(|text| JoinTokenText::parse(&text)).transpose()?)
}

const TOKEN_CAP: u64 = 64 * 1024;
