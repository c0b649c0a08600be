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
    let key = |secret: &rap_runtime::Secret| -> Result<Zeroizing<[u8; 32]>, Fault> {
        let bytes = <[u8; 32]>::try_from(secret.expose());
        bytes.map(Zeroizing::new).map_err(|_| Fault::new(Reason::StateCorrupt, "a key has not 32 bytes"))
    };
    Ok((Signer::from_seed(&*key(&credentials.node_key)?), key(&credentials.wireguard_key)?))
}

/// Public half of a WireGuard key.
pub fn wireguard_public(private: &Zeroizing<[u8; 32]>) -> [u8; 32] {
    WireguardPublic::from(&StaticSecret::from(**private)).to_bytes()
}
