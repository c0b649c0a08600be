//! Keys of operators: made where the operator works. Offline.

use std::path::Path;

use rap_contract::PublicKeyFile;
use rap_runtime::Fault;
use rap_types::Reason;
use serde_json::json;

use super::root::with_suffix;
use crate::args::{Global, Key, Protect};
use crate::output::{Answer, properties};
use crate::{files, key_store};

/// Purpose of operator key files.
const OPERATOR: &str = "operator";

pub(crate) fn run(global: &Global, command: Key) -> anyhow::Result<()> {
    match command {
        Key::Create { out, protect } => create(global, &out, &protect),
    }
}

fn create(global: &Global, out: &Path, protect: &Protect) -> anyhow::Result<()> {
    let (private, public) = (with_suffix(out, ".key"), with_suffix(out, ".pub"));
    if public.exists() {
        let message = format!("{}: exists already", public.display());
        return Err(Fault::new(Reason::ResourceExists, message).into());
    }
    let signer = key_store::generate();
    key_store::create(&private, OPERATOR, &signer, protect)?;
    let file = PublicKeyFile::of(OPERATOR, signer.public());
    files::create_new(&public, file.text().as_bytes(), 0o644)?;
    let body = json!({
        "private_key_file": private, "public_key_file": public,
        "fingerprint": signer.id(), "words": signer.id().words(),
    });
    Answer::new("rap.key-created.v1", body)
        .table(
            &["PROPERTY", "VALUE"],
            0,
            properties(&[
                ("private key", private.display().to_string()),
                ("public key", format!("{} (give it to an owner)", public.display())),
                ("fingerprint", signer.id().to_string()),
                ("words", signer.id().words()),
            ]),
        )
        .next(format!("an owner: rapctl grant add NAME --role platform_admin --key {}", public.display()))
        .print(global)
}
