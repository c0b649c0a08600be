//! Keys of operators: made where the operator works. Offline.

use crate::args::{Global, Key};
use crate::key_store;

/// Purpose of operator key files.
const OPERATOR: &str = "operator";

pub(crate) fn run(global: &Global, command: Key) -> anyhow::Result<()> {
    let Key::Create { out, protect } = command;
    let pair = key_store::Pair::create(&out, OPERATOR, &protect)?;
    let next =
        format!("an owner: rapctl grant add NAME --role platform_admin --key {}", pair.public.display());
    pair.answer("rap.key-created.v1", "", " (give it to an owner)").next(next).print(global)
}
