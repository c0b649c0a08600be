//! Records that move a cluster to another authority key.
//!
//! Owns the contents of such a record and its signers. Refuses to own the source of the keys.

use rap_contract::{AuthorityChain, HeaderTerms, PublicKey, Reject, Signer, sign};
use rap_types::Wall;
use rap_wire::v1;
use v1::authority_record::Kind;

use crate::{critical, known_features, next_incarnation};

/// By whose word the next key speaks.
#[derive(Debug, Clone, Copy)]
pub enum Succession<'a> {
    /// The key before names it.
    Rotation(&'a Signer),
    /// The installation authority names it: the key before is lost or stolen.
    Recovery(&'a Signer),
}

/// A chain that was extended, and the record that did it.
#[derive(Debug)]
pub struct Extended {
    /// The chain with the record.
    pub chain: AuthorityChain,
    /// The encoded record.
    pub record: Vec<u8>,
}

/// Signs the record after `chain` that names `next`, for an incarnation above `incarnation` (the highest
/// that was ever served), and verifies it as a node does.
///
/// # Errors
/// `chain.broken`: the key spoke for the cluster before.
pub fn extend_chain(
    chain: &AuthorityChain,
    installation_authority: &PublicKey,
    succession: Succession<'_>,
    next: &Signer,
    incarnation: u64,
    now: Wall,
) -> Result<Extended, Reject> {
    let (issuer, kind) = match succession {
        Succession::Rotation(signer) => (signer, Kind::Rotate),
        Succession::Recovery(signer) => (signer, Kind::Recovery),
    };
    let last = chain.records().last().map(|record| record.header().clone());
    let last = last.ok_or(Reject::new(rap_types::Reason::ChainBroken, "empty"))?;
    let dev = last.critical == critical(true);
    let record = v1::AuthorityRecord {
        header: Some(
            HeaderTerms {
                incarnation: next_incarnation(incarnation.max(chain.incarnation()), now),
                sequence: chain.sequence() + 1,
                critical: critical(dev),
                ..HeaderTerms::of_cluster(last.installation, last.cluster, issuer.id(), now)
            }
            .to_wire(),
        ),
        kind: kind.into(),
        authority_key: next.public().to_vec(),
        previous_record_digest: chain.digest().to_vec(),
    };
    let record = sign(&record, &[issuer, next]);
    let chain = chain.extended(&[&record], installation_authority, known_features(dev))?;
    Ok(Extended { chain, record })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_types::{ClusterId, InstallationId, Reason};
    use std::time::Duration;

    const NOW: Wall = Wall(1_800_000_000_000);

    fn created(dev: bool) -> (Signer, crate::NewCluster, AuthorityChain) {
        let mut generator = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(4);
        let installation = InstallationId::from_bytes([1; 16]);
        let vouching = Signer::generate(&mut generator);
        let timing = crate::ClusterTiming {
            fresh_for: Duration::from_secs(300),
            degraded_for: Duration::from_secs(3600),
            refresh_every: Duration::from_secs(30),
            leaf_lifetime: Duration::from_secs(86_400),
        };
        let order = crate::ClusterOrder { name: "prod", ipv4_pool: "", timing };
        let new = crate::create_cluster(installation, &vouching, dev, &order, NOW, &mut generator).unwrap();
        let chain = crate::reopen_cluster(
            installation,
            &vouching.public(),
            dev,
            new.id,
            std::slice::from_ref(&new.record),
            &new.authority.public(),
        );
        assert_ne!(new.id, ClusterId::ZERO);
        (vouching, new, chain.unwrap())
    }

    #[test]
    fn a_rotation_and_a_recovery_extend_the_chain_in_rising_incarnations() {
        for dev in [false, true] {
            let (vouching, new, chain) = created(dev);
            let (second, third) = (Signer::from_seed(&[2; 32]), Signer::from_seed(&[3; 32]));
            let extend = |chain: &AuthorityChain, succession, next: &Signer, seen| {
                extend_chain(chain, &vouching.public(), succession, next, seen, NOW)
            };
            let rotated = extend(&chain, Succession::Rotation(&new.authority), &second, 0).unwrap();
            assert_eq!((rotated.chain.active(), rotated.chain.sequence()), (second.public(), 2));
            assert!(rotated.chain.incarnation() > chain.incarnation());
            let high = 5_000_000_000;
            let recovered = extend(&rotated.chain, Succession::Recovery(&vouching), &third, high).unwrap();
            assert_eq!(recovered.chain.incarnation(), high + 1);
            assert_eq!(recovered.chain.key_at(high), Some(second.public()));
            assert_eq!(recovered.chain.key_at(high + 1), Some(third.public()));

            let reason = |result: Result<Extended, Reject>| result.unwrap_err().reason;
            let back = extend(&rotated.chain, Succession::Rotation(&second), &new.authority, 0);
            assert_eq!(reason(back), Reason::ChainBroken, "a key that was replaced never returns");
            let stranger = extend(&rotated.chain, Succession::Rotation(&new.authority), &third, 0);
            assert_eq!(reason(stranger), Reason::KeyUnknown, "only the newest key names the next");
        }
    }
}
