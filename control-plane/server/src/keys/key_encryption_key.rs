//! Which key encryption key opens the database, and what it has to open.
//!
//! Owns the choice among the keys of this host. Refuses to own the rotation (`commands/keys`).

use rap_authority::{FloorOf, ReplicaFloors, SealingKey};
use rap_store::{DekRow, PgConnection, deks_all, installation_read};
use rap_types::{InstallationId, Reason};

use crate::failure::Failure;
use crate::keys::seal_context::Sealed;

/// The key that opens the database. During a rotation there are two on disk, and one of them does.
///
/// # Errors
/// `secret.unseal`.
pub(crate) fn choose<'a>(
    keys: &'a [SealingKey],
    installation: InstallationId,
    sealed_private_key: &[u8],
) -> Result<&'a SealingKey, Failure> {
    let opens = |key: &&SealingKey| {
        Sealed::InstallationAuthority.open(*key, installation, sealed_private_key).is_ok()
    };
    keys.iter()
        .find(opens)
        .ok_or_else(|| Failure::new(Reason::SecretUnseal, "no key on this host opens the database"))
}

/// Splits the keys of this host into the one that opens the database and the others.
///
/// # Errors
/// `secret.unseal`.
pub(crate) async fn of_database(
    connection: &mut PgConnection,
    mut keys: Vec<SealingKey>,
) -> Result<(SealingKey, Vec<SealingKey>), Failure> {
    let Some(row) = installation_read(connection).await? else {
        // Whoever asked says so in its own words.
        return Ok((keys.remove(0), keys));
    };
    let stored = &row.installation;
    let key = choose(&keys, stored.installation, &stored.sealed_private_key)?.clone();
    keys.retain(|other| other.expose() != key.expose());
    Ok((key, keys))
}

/// Refuses to seal under a key that was replaced while this process held it.
///
/// # Errors
/// `secret.unseal`.
pub(crate) async fn require_current(connection: &mut PgConnection, key: &SealingKey) -> Result<(), Failure> {
    let Some(row) = installation_read(connection).await? else { return Ok(()) };
    let stored = &row.installation;
    choose(std::slice::from_ref(key), stored.installation, &stored.sealed_private_key).map(drop).map_err(
        |_| {
            Failure::new(
                Reason::SecretUnseal,
                "the key encryption key was replaced; restart this control plane",
            )
        },
    )
}

/// The data keys that count. One that was retired before and lies there again is an alarm, and neither
/// opened nor wrapped anew.
///
/// # Errors
/// `floor.rollback` if a cluster has no other: that is an old database, and nothing of it is given up.
pub(crate) async fn live_deks(
    connection: &mut PgConnection,
    floors: &ReplicaFloors,
) -> Result<Vec<DekRow>, Failure> {
    let of = |dek: &DekRow| floors.of(FloorOf::DataKey(dek.cluster)).map_or(0, |floor| floor.sequence);
    let (live, retired): (Vec<DekRow>, Vec<DekRow>) =
        deks_all(connection).await?.into_iter().partition(|dek| dek.key_version >= of(dek));
    for dek in retired {
        if !live.iter().any(|other| other.cluster == dek.cluster) {
            let text = format!("every data key of cluster {} was retired before", dek.cluster);
            return Err(Failure::new(Reason::FloorRollback, text));
        }
        tracing::error!(alarm = true, reason = %Reason::FloorRollback, cluster = %dek.cluster,
            version = dek.key_version, "a data key that was retired is in the database; it is passed over");
    }
    Ok(live)
}
