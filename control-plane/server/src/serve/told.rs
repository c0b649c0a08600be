//! What replicas tell each other of what they signed: the floor, under a MAC, and the signed bytes if they are short.
//!
//! Owns the text and its MAC, by the key of the installation's rows: a bare number would let whoever writes the
//! database lift every floor for ever. Refuses to own how a text travels (`tasks/doorbell`).

use rap_authority::{Columns, Floor, FloorOf};
use rap_store::{PgConnection, SignedCopy, doorbell_tell};
use rap_types::{ClusterId, Digest, TokenId};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::keys::handle::Keys;

/// A floor of another replica, and the documents up to it that it sent along.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// What it is a floor of.
    pub of: FloorOf,
    /// The floor.
    pub at: Floor,
    /// Signed documents; they count by their signatures.
    pub copies: Vec<SignedCopy>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    of: String,
    at: Floor,
    mac: Digest,
    copies: Vec<SignedCopy>,
}

/// Asks every replica for its floors.
pub(crate) const ASK: &str = "floors?";

/// A longer text is not delivered.
const LONGEST: usize = 7_900;

impl Told {
    /// The text of a floor.
    pub fn text(keys: &Keys, of: FloorOf, at: Floor, copies: &[SignedCopy]) -> String {
        let name = name(of);
        let mac = Digest::from_bytes(keys.rows.seal(TABLE, &name, at.sequence, &covered(at)));
        let mut text = Text { of: name, at, mac, copies: copies.to_vec() };
        let long = serde_json::to_string(&text).unwrap_or_default();
        if long.len() <= LONGEST {
            return long;
        }
        text.copies.clear();
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// What a text says; `None` if no replica of this installation told it.
    pub fn of_text(keys: &Keys, text: &str) -> Option<Self> {
        let Text { of, at, mac, copies } = serde_json::from_str(text).ok()?;
        keys.rows.check(TABLE, &of, at.sequence, &covered(at), mac.as_bytes())?;
        Some(Self { of: named(&of)?, at, copies })
    }
}

/// Tells the other replicas, once the transaction of the connection is committed.
pub(crate) async fn tell(
    keys: &Keys,
    connection: &mut PgConnection,
    (of, at): (FloorOf, Floor),
    copies: &[SignedCopy],
) -> Result<(), Failure> {
    Ok(doorbell_tell(connection, &Told::text(keys, of, at, copies)).await?)
}

fn covered(at: Floor) -> Columns {
    Columns::new().bytes(at.digest.as_bytes())
}

fn name(of: FloorOf) -> String {
    match of {
        FloorOf::GrantSet => "grant-set".to_owned(),
        FloorOf::Revocations(cluster) => format!("revocations/{cluster}"),
        FloorOf::Authority(cluster) => format!("authority/{cluster}"),
        FloorOf::DataKey(cluster) => format!("data-key/{cluster}"),
        FloorOf::Checkpoint => "checkpoint".to_owned(),
        FloorOf::RevokedToken(token) => format!("revoked-token/{token}"),
    }
}

fn named(name: &str) -> Option<FloorOf> {
    let cluster = |text: &str| text.parse::<ClusterId>().ok();
    Some(match name.split_once('/') {
        None if name == "grant-set" => FloorOf::GrantSet,
        None if name == "checkpoint" => FloorOf::Checkpoint,
        Some(("revocations", id)) => FloorOf::Revocations(cluster(id)?),
        Some(("authority", id)) => FloorOf::Authority(cluster(id)?),
        Some(("data-key", id)) => FloorOf::DataKey(cluster(id)?),
        Some(("revoked-token", id)) => FloorOf::RevokedToken(id.parse::<TokenId>().ok()?),
        _ => return None,
    })
}

const TABLE: &str = "told_floors";
