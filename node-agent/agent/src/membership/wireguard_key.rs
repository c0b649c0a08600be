//! Private keys of a membership, taken out of the identity store.
//!
//! Owns the conversion and its checks of length. Refuses to store keys.

use rap_contract::Signer;
use rap_runtime::Fault;
use rap_state::IdentityStore;
use rap_types::Reason;
use x25519_dalek::{PublicKey as WireguardPublic, StaticSecret};
use zeroize::Zeroizing;

/// Private keys of a membership, taken out of their secret texts.
///
/// # Errors
/// `state.corrupt`.
pub fn keys_of(store: &IdentityStore) -> Result<(Signer, Zeroizing<[u8; 32]>), Fault> {
    let credentials = store.credentials();
    let node_key = stored_key(credentials.node_key.expose())?;
    Ok((Signer::from_seed(&node_key), stored_key(credentials.wireguard_key.expose())?))
}

/// A key as it is stored.
///
/// # Errors
/// `state.corrupt`.
pub fn stored_key(bytes: &[u8]) -> Result<Zeroizing<[u8; 32]>, Fault> {
    let key = <[u8; 32]>::try_from(bytes).map(Zeroizing::new);
    key.map_err(|_| Fault::new(Reason::StateCorrupt, "a key has not 32 bytes"))
}

/// Public half of a WireGuard key.
pub fn wireguard_public(private: &Zeroizing<[u8; 32]>) -> [u8; 32] {
    WireguardPublic::from(&StaticSecret::from(**private)).to_bytes()
}
