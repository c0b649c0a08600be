//! What a check of a fault reports: the effect of the mend, and a control that shows that the check can fail.

use serde_json::{Value, json};

use crate::check::Finding;

/// One measured half of a check.
#[derive(Debug)]
pub struct Half {
    ok: bool,
    value: Value,
}

/// A measurement and whether it is as it must be.
pub fn half(ok: bool, value: Value) -> Half {
    Half { ok, value }
}

/// The finding of a check: both halves must hold.
pub fn shown(effect: Half, control: Half, note: &str) -> Finding {
    let value = json!({
        "effect": { "ok": effect.ok, "value": effect.value },
        "control": { "ok": control.ok, "value": control.value },
    });
    Finding::new(effect.ok && control.ok, value, note)
}
