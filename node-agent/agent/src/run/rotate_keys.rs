//! Replacing the keys of a membership that does not run at this moment: new keys on disk, the control
//! plane's word, new keys in force. Cut off anywhere, the next attempt goes on where this one was.
//!
//! Owns the order. The data plane goes on meanwhile with the keys it has.

use rap_contract::Signer;
use rap_runtime::{Clock, Fault};
use rap_state::{IdentityStore, MembershipDir, MembershipName};
use rap_trust::certificate::NewKeys;
use rap_types::Reason;
use zeroize::Zeroizing;

use crate::blocking::blocking;
use crate::config::Config;
use crate::control_plane::CertificateTask;
use crate::membership::{KeyHistory, Membership, PendingKeys, Wanted, wireguard_public};

/// Replaces keys; returns the key generation. Keys that an earlier attempt made are taken to their end
/// instead of new ones.
///
/// # Errors
/// An error of local state or of the control plane; the keys before stay in force then.
pub async fn rotate(config: &Config, name: &MembershipName, wanted: Wanted) -> Result<u64, Fault> {
    let (data, of, dev) = (config.data_dir.clone(), name.clone(), config.dev);
    let membership = blocking(move || {
        let mut membership = Membership::open(&data, &of, dev)?;
        let identity = wanted.identity.then(|| Signer::generate(&mut rand::rng()));
        let wireguard = wanted.wireguard.then(|| {
            let mut key = Zeroizing::new([0; 32]);
            rand::Rng::fill_bytes(&mut rand::rng(), key.as_mut_slice());
            key
        });
        let new = PendingKeys::new(identity.as_ref(), wireguard.as_ref());
        let Membership { dir, keys, signer, wireguard_key, .. } = &mut membership;
        keys.prepare(dir, (signer, wireguard_key), new)?;
        Ok(membership)
    })
    .await?;
    let nothing = || Fault::new(Reason::RequestInvalid, "no key is to be replaced");
    let pending = membership.keys.pending.clone().ok_or_else(nothing)?;
    let (identity, wireguard) = (pending.identity()?, pending.wireguard()?);
    // Cut off between the keys and the record: the control plane has them.
    let identity = identity.filter(|new| new.id() != membership.signer.id());
    let wireguard = wireguard.filter(|new| *new != membership.wireguard_key);
    let mut generation = 0;
    if identity.is_some() || wireguard.is_some() {
        let new =
            NewKeys { identity: identity.as_ref(), wireguard: wireguard.as_ref().map(wireguard_public) };
        generation = CertificateTask::standing_alone(&membership, config)?.rotate_anywhere(new).await?;
    }
    let new_identity = identity.is_some();
    blocking(move || {
        let dir = membership.dir.clone();
        let mut keys = membership.keys.clone();
        drop(membership);
        finish(&dir, &mut keys, new_identity)
    })
    .await?;
    Ok(generation)
}

fn finish(dir: &MembershipDir, keys: &mut KeyHistory, new_identity: bool) -> Result<(), Fault> {
    let absent = || Fault::new(Reason::MembershipAbsent, "the identity is gone");
    let (mut store, _) = IdentityStore::open(dir)?.ok_or_else(absent)?;
    keys.finish(dir, &mut store, Clock::new().now().wall)?;
    if new_identity {
        // The leaf of a revoked generation; the next is issued at once.
        for file in ["certificate.json", "certificate.json.twin"] {
            let _ = std::fs::remove_file(dir.join(file));
        }
    }
    Ok(())
}
