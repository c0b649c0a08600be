//! Keys of operators: made where the operator works. Offline.

use std::path::Path;

use crate::args::{Global, Key, Protect};
use crate::key_store;
use crate::output::{Answer, properties};

/// Purpose of operator key files.
const OPERATOR: &str = "operator";

pub(crate) fn run(global: &Global, command: Key) -> anyhow::Result<()> {
    match command {
        Key::Create { out, protect } => create(global, &out, &protect),
    }
}

fn create(global: &Global, out: &Path, protect: &Protect) -> anyhow::Result<()> {
    let pair = key_store::Pair::create(out, OPERATOR, protect)?;
    Answer::new("rap.key-created.v1", pair.document())
        .properties(properties(&[
            ("private key", pair.private.display().to_string()),
            ("public key", format!("{} (give it to an owner)", pair.public.display())),
            ("fingerprint", pair.id.to_string()),
            ("words", pair.id.words()),
        ]))
        .next(format!(
            "an owner: rapctl grant add NAME --role platform_admin --key {}",
            pair.public.display()
        ))
        .print(global)
}
