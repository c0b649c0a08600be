//! Tokens that were revoked, as this replica's floors know them: whoever puts a row back revives none.
//!
//! Owns what a floor of a token says. Refuses to own how floors are kept and told.

use rap_authority::{Floor, FloorOf, ReplicaFloors};
use rap_store::TokenRow;
use rap_types::{Digest, Wall};

use crate::failure::Failure;
use crate::serve::handle::Serving;

/// The floor of a token that is revoked.
pub(crate) fn floor_of(row: &TokenRow) -> Floor {
    let sequence = u64::try_from(row.token.expires_at.0).unwrap_or_default();
    Floor { sequence, digest: Digest::of(&[&row.token.envelope]) }
}

/// True if the token ended.
pub(crate) fn is_over(floor: &Floor, now: Wall) -> bool {
    u64::try_from(now.0).is_ok_and(|now| floor.sequence <= now)
}

/// True if a floor says that the token was revoked and its row does not. The row was read after the floors.
pub(crate) fn is_put_back(floors: &ReplicaFloors, row: &TokenRow) -> bool {
    row.revoked_at.is_none() && floors.of(FloorOf::RevokedToken(row.token.token)).is_some()
}

impl Serving {
    /// Raises the floors of tokens that are revoked by their rows and did not end. A replica without floors stays without:
    /// it gets them from a person, not from its database.
    ///
    /// # Errors
    /// `state.io` or `state.no_space`: the floors file could not be written.
    pub(crate) async fn learn_revoked_tokens(&self, rows: &[TokenRow]) -> Result<(), Failure> {
        if !self.database.floors.exists() {
            return Ok(());
        }
        let now = self.watch.clock.now().wall;
        for row in rows.iter().filter(|row| row.revoked_at.is_some()) {
            let floor = floor_of(row);
            if !is_over(&floor, now) {
                self.raise_floor(FloorOf::RevokedToken(row.token.token), floor).await?;
            }
        }
        Ok(())
    }
}

/// What is wrong with a token that was revoked and whose row does not say so.
pub(crate) fn put_back(row: &TokenRow) -> String {
    format!("token {} was revoked, and its row does not say so any more; revoke it again", row.token.token)
}
