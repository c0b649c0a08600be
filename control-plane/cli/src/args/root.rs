//! `rapctl root`: Product Root keys and what they sign.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::Protect;
use crate::duration::parse_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Root {
    /// Make a Product Root key: NAME.key (encrypted) and NAME.pub.
    Init {
        /// Path without extension.
        #[arg(long, value_name = "NAME")]
        out: PathBuf,
        #[command(flatten)]
        protect: Protect,
    },
    /// Sign an activation request: writes the manifest and the first owner's key beside it.
    SignActivation {
        /// The act-*.req file of `rap-control-plane init`.
        request: PathBuf,
        /// First owner, as a name or e-mail address.
        #[arg(long)]
        owner: String,
        /// Product Root key file.
        #[arg(long, value_name = "FILE", default_value = "product-root.key")]
        key: PathBuf,
        /// How long the manifest may be consumed.
        #[arg(long, default_value = "7d", value_parser = parse_duration)]
        ttl: Duration,
        #[command(flatten)]
        protect: Protect,
    },
}
