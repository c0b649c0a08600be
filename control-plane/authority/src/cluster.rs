//! Creation of a cluster: name, timing, address pool, keys and the signed record that names its authority.
//!
//! Owns the rules for names and limits. Refuses to own the cluster's certificate authority (X.509 is in the server)
//! and the contents of the Merkle map (rap-planner).

use std::time::Duration;

use ipnet::Ipv4Net;
use rand_core::CryptoRng;
use rap_contract::{AuthorityChain, HeaderTerms, PublicKey, Reject, Signer, sign};
use rap_types::{ClusterId, InstallationId, Reason, Wall, sense};
use rap_wire::v1;
use zeroize::Zeroizing;

use crate::custody::SealingKey;
use crate::overlay::check_pool;
use crate::{critical, ids, known_features};

/// Timing of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterTiming {
    /// How long a head is fresh.
    pub fresh_for: Duration,
    /// How long a node works on past that.
    pub degraded_for: Duration,
    /// How often an idle head is signed again.
    pub refresh_every: Duration,
    /// Life of a node certificate.
    pub leaf_lifetime: Duration,
}

impl ClusterTiming {
    /// Refuses timing under which nodes would lapse without a fault.
    ///
    /// # Errors
    /// `request.invalid`.
    pub fn check(&self) -> Result<(), Reject> {
        let invalid = |what| Err(Reject::new(Reason::RequestInvalid, what));
        if self.leaf_lifetime < Duration::from_secs(10) {
            return invalid("leaf_lifetime must be at least 10 s");
        }
        if self.leaf_lifetime > LONGEST_CERTIFICATE {
            return invalid("leaf_lifetime must be at most 366 days");
        }
        if self.fresh_for > LONGEST_FRESH {
            return invalid("fresh_for must be at most 31 days");
        }
        if self.degraded_for > self.leaf_lifetime / 2 {
            return invalid("degraded_for must not exceed half of leaf_lifetime");
        }
        if self.refresh_every < Duration::from_millis(100) {
            return invalid("refresh_every must be at least 100 ms");
        }
        if self.refresh_every > self.fresh_for / 2 {
            return invalid("refresh_every must not exceed half of fresh_for");
        }
        Ok(())
    }
}

/// A node certificate that lives longer is revoked by nobody's forgetting it.
pub const LONGEST_CERTIFICATE: Duration = Duration::from_secs(366 * 86_400);
/// Nodes would believe a withheld head for longer.
pub const LONGEST_FRESH: Duration = Duration::from_secs(31 * 86_400);

/// What an operator asks of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct ClusterOrder<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its IPv4 pool; empty = default.
    pub ipv4_pool: &'a str,
    /// Its timing.
    pub timing: ClusterTiming,
}

/// Secrets and signed birth certificate of a cluster that was just made.
#[derive(Debug)]
pub struct NewCluster {
    /// Its id.
    pub id: ClusterId,
    /// Its authority key.
    pub authority: Signer,
    /// Encoded create record.
    pub record: Vec<u8>,
    /// First incarnation of its heads.
    pub incarnation: u64,
    /// Key that seals its secrets; to be wrapped by the key encryption key.
    pub data_key: SealingKey,
    /// Key of its Merkle map.
    pub map_key: Zeroizing<[u8; 32]>,
    /// Its IPv4 pool.
    pub ipv4_pool: Ipv4Net,
}

/// Makes a cluster: keys, address ranges and the record by which the installation vouches for it.
///
/// # Errors
/// `request.invalid` for a bad name, pool or timing.
pub fn create_cluster(
    installation: InstallationId,
    installation_authority: &Signer,
    dev: bool,
    order: &ClusterOrder<'_>,
    now: Wall,
    generator: &mut dyn CryptoRng,
) -> Result<NewCluster, Reject> {
    let authority = Signer::generate(generator);
    create_cluster_of(installation, installation_authority, dev, order, authority, now, generator)
}

/// As [`create_cluster`], with an authority key that was made elsewhere.
///
/// # Errors
/// Those of [`create_cluster`]; `key.purpose` for the installation authority's own key.
pub fn create_cluster_of(
    installation: InstallationId,
    installation_authority: &Signer,
    dev: bool,
    order: &ClusterOrder<'_>,
    authority: Signer,
    now: Wall,
    generator: &mut dyn CryptoRng,
) -> Result<NewCluster, Reject> {
    let id = ClusterId::from_parts(ids::millis(now), ids::random(generator));
    cluster_of(installation, installation_authority, dev, id, order, authority, now, generator)
}

/// Makes the keys and the record of a cluster whose row came from elsewhere, with the id that it has
/// there. What the row says is admitted as if an operator had typed it; its incarnation is not asked.
///
/// # Errors
/// Those of [`create_cluster`]; `request.invalid` for the id that means the installation itself.
pub fn adopt_cluster(
    installation: InstallationId,
    installation_authority: &Signer,
    dev: bool,
    id: ClusterId,
    order: &ClusterOrder<'_>,
    now: Wall,
    generator: &mut dyn CryptoRng,
) -> Result<NewCluster, Reject> {
    check_order(id, order)?;
    let authority = Signer::generate(generator);
    cluster_of(installation, installation_authority, dev, id, order, authority, now, generator)
}

/// Judges what [`adopt_cluster`] would judge, and makes nothing.
///
/// # Errors
/// As there.
pub fn check_order(id: ClusterId, order: &ClusterOrder<'_>) -> Result<Ipv4Net, Reject> {
    Reject::when(id == ClusterId::ZERO, Reason::RequestInvalid, "the id of a cluster is not zero")?;
    check_name(order.name)?;
    order.timing.check()?;
    check_pool(order.ipv4_pool)
}

#[allow(clippy::too_many_arguments, reason = "all that a cluster is made of, once")]
fn cluster_of(
    installation: InstallationId,
    installation_authority: &Signer,
    dev: bool,
    id: ClusterId,
    order: &ClusterOrder<'_>,
    authority: Signer,
    now: Wall,
    generator: &mut dyn CryptoRng,
) -> Result<NewCluster, Reject> {
    let ipv4_pool = check_order(id, order)?;
    if authority.public() == installation_authority.public() {
        return Err(Reject::new(Reason::KeyPurpose, "the key is the installation authority's"));
    }
    let incarnation = next_incarnation(0, now);
    let record = create_record(installation, installation_authority, dev, id, &authority, incarnation, now);
    let map_key = Zeroizing::new(ids::random(generator));
    let data_key = SealingKey::generate(generator);
    Ok(NewCluster { id, authority, record, incarnation, data_key, map_key, ipv4_pool })
}

/// The first record of a cluster's chain.
fn create_record(
    installation: InstallationId,
    installation_authority: &Signer,
    dev: bool,
    id: ClusterId,
    authority: &Signer,
    incarnation: u64,
    now: Wall,
) -> Vec<u8> {
    let record = v1::AuthorityRecord {
        header: Some(
            HeaderTerms {
                incarnation,
                critical: critical(dev),
                ..HeaderTerms::of_cluster(installation, id, installation_authority.id(), now)
            }
            .to_wire(),
        ),
        kind: v1::authority_record::Kind::Create.into(),
        authority_key: authority.public().to_vec(),
        previous_record_digest: Vec::new(),
    };
    sign(&record, &[installation_authority, authority])
}

/// Verifies a cluster's stored records and that `authority` is the key they end in.
///
/// # Errors
/// Those of the chain; `row.tampered` if the stored key is another.
pub fn reopen_cluster(
    installation: InstallationId,
    installation_authority: &PublicKey,
    dev: bool,
    cluster: ClusterId,
    records: &[Vec<u8>],
    authority: &PublicKey,
) -> Result<AuthorityChain, Reject> {
    let chain =
        AuthorityChain::verify(records, installation_authority, installation, cluster, known_features(dev))?;
    Reject::when(chain.active() != *authority, Reason::RowTampered, "cluster authority key")?;
    Ok(chain)
}

/// The incarnation after `stored`: max(stored + 1, Unix seconds).
pub fn next_incarnation(stored: u64, now: Wall) -> u64 {
    stored.saturating_add(1).max(u64::try_from(now.0 / 1000).unwrap_or(0))
}

/// Admits names of clusters and nodes: one DNS label.
///
/// # Errors
/// `request.invalid`.
pub fn check_name(name: &str) -> Result<(), Reject> {
    sense::label(name).map_err(|what| Reject::new(Reason::RequestInvalid, what))?;
    // Commands take a name or an id.
    if name.parse::<ClusterId>().is_ok() {
        return Err(Reject::new(Reason::RequestInvalid, "a name does not look like an id"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    const NOW: Wall = Wall(1_800_000_000_000);
    const TIMING: ClusterTiming = ClusterTiming {
        fresh_for: Duration::from_secs(300),
        degraded_for: Duration::from_secs(43_200),
        refresh_every: Duration::from_secs(30),
        leaf_lifetime: Duration::from_secs(86_400),
    };

    const ORDER: ClusterOrder<'_> = ClusterOrder { name: "prod", ipv4_pool: "", timing: TIMING };

    #[test]
    fn a_new_cluster_is_vouched_for_by_the_installation_and_itself() {
        let mut generator = rand::rngs::StdRng::seed_from_u64(1);
        let installation = InstallationId::from_bytes([1; 16]);
        let root = Signer::generate(&mut generator);
        let new = create_cluster(installation, &root, true, &ORDER, NOW, &mut generator).unwrap();
        let records = [new.record.clone()];
        let chain =
            reopen_cluster(installation, &root.public(), true, new.id, &records, &new.authority.public())
                .unwrap();
        assert_eq!(chain.active(), new.authority.public());
        assert_eq!(chain.incarnation(), 1_800_000_000);

        let strict =
            reopen_cluster(installation, &root.public(), false, new.id, &records, &new.authority.public());
        assert_eq!(strict.unwrap_err().reason, Reason::AuthorityDevRefused);
        let swapped = reopen_cluster(installation, &root.public(), true, new.id, &records, &root.public());
        assert_eq!(swapped.unwrap_err().reason, Reason::RowTampered);
        let stranger = Signer::generate(&mut generator).public();
        let forged = reopen_cluster(installation, &stranger, true, new.id, &records, &new.authority.public());
        assert_eq!(forged.unwrap_err().reason, Reason::KeyUnknown);
    }

    #[test]
    fn timing_that_would_lapse_and_bad_names_are_refused() {
        assert_eq!(TIMING.check(), Ok(()));
        for timing in [
            ClusterTiming { degraded_for: Duration::from_secs(43_201), ..TIMING },
            ClusterTiming { refresh_every: Duration::from_secs(151), ..TIMING },
            ClusterTiming { refresh_every: Duration::ZERO, ..TIMING },
            ClusterTiming { leaf_lifetime: Duration::ZERO, degraded_for: Duration::ZERO, ..TIMING },
            ClusterTiming { leaf_lifetime: LONGEST_CERTIFICATE + Duration::from_millis(1), ..TIMING },
            ClusterTiming { fresh_for: LONGEST_FRESH + Duration::from_millis(1), ..TIMING },
            ClusterTiming { leaf_lifetime: Duration::MAX, fresh_for: Duration::MAX, ..TIMING },
        ] {
            assert_eq!(timing.check().unwrap_err().reason, Reason::RequestInvalid, "{timing:?}");
        }
        let id = ClusterId::from_bytes([1; 16]).to_string();
        for name in ["", "-a", "a-", "A", "a_b", "a.b", "a\u{1b}b", "\u{e9}", &"a".repeat(64), &id] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("prod-1").is_ok());
    }

    #[test]
    fn an_adopted_cluster_keeps_its_id_and_is_judged_as_a_typed_one() {
        let mut generator = rand::rngs::StdRng::seed_from_u64(1);
        let (installation, id) = (InstallationId::from_bytes([1; 16]), ClusterId::from_bytes([9; 16]));
        let root = Signer::generate(&mut generator);
        let mut adopt = |id, order: &ClusterOrder<'_>| {
            adopt_cluster(installation, &root, false, id, order, NOW, &mut generator)
        };
        let new = adopt(id, &ORDER).unwrap();
        assert_eq!((new.id, new.incarnation), (id, 1_800_000_000));
        assert_ne!(adopt(id, &ORDER).unwrap().authority.public(), new.authority.public());
        for (id, order) in [
            (ClusterId::ZERO, ORDER),
            (id, ClusterOrder { name: "Prod", ..ORDER }),
            (id, ClusterOrder { ipv4_pool: "8.8.8.0/24", ..ORDER }),
            (id, ClusterOrder { timing: ClusterTiming { leaf_lifetime: Duration::MAX, ..TIMING }, ..ORDER }),
        ] {
            assert_eq!(adopt(id, &order).unwrap_err().reason, Reason::RequestInvalid, "{order:?}");
        }
        let chain =
            reopen_cluster(installation, &root.public(), false, id, &[new.record], &new.authority.public());
        assert_eq!(chain.unwrap().active(), new.authority.public());
    }

    #[test]
    fn incarnations_rise_even_when_the_clock_does_not() {
        assert_eq!(next_incarnation(0, Wall(5_000)), 5);
        assert_eq!(next_incarnation(9, Wall(5_000)), 10);
        assert_eq!(next_incarnation(0, Wall(-5)), 1);
    }
}
