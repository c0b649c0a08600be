//! Opens the state of one membership and makes its cores, before any of its tasks runs.
//!
//! Owns the order: verified state, then the host's addresses, then the cores. Refuses to start tasks.

use std::path::PathBuf;

use rap_node::{ContactFacts, Node, NodeSettings, PathTerms};
use rap_runtime::{Clock, Fault, boot_id};
use rap_state::{Cache, CacheLimits, MembershipName};
use rap_trust::{AuthorityPin, Pools};
use rap_types::Reason;

use crate::blocking::blocking;
use crate::config::Config;
use crate::dataplane::Launch;
use crate::host::{OwnClaim, capabilities, own_endpoints};
use crate::membership::{
    HostAllocation, Membership, StoredCertificate, StoredTime, allocation_of, stored_grants, stored_snapshots,
};

/// An open membership.
pub(super) struct Opened {
    pub(super) membership: Membership,
    /// Why the stored certificate is not used, if so.
    pub(super) found: Option<Fault>,
    pub(super) cache: Cache,
    pub(super) node: Node,
    /// The certificate on disk, valid or not.
    pub(super) leaf: Option<StoredCertificate>,
    pub(super) allocation: HostAllocation,
    pub(super) launch: Launch,
    /// Own endpoints by interface address: (link, WireGuard).
    pub(super) addresses: (Vec<String>, Vec<String>),
    /// The kernel's id of this boot.
    pub(super) boot_id: String,
}

/// Opens the membership `name`. Its addresses are taken before anything of it runs.
///
/// # Errors
/// An error of the membership or of its state; `overlay.overlap`.
pub(super) async fn open(config: &Config, name: MembershipName, claim: &OwnClaim) -> Result<Opened, Fault> {
    let (data, dev) = (config.data_dir.clone(), config.dev);
    // The operator's pin is of one cluster; further memberships are in others.
    let pin = if name == config.membership { config.pin.clone() } else { AuthorityPin::default() };
    let boot_id = boot_id().map_err(Fault::of(Reason::StateIo))?;
    let boot = boot_id.clone();
    let (membership, (leaf, found), grants, allocation, remembered) = blocking(move || {
        let membership = Membership::open(&data, &name, dev)?;
        pin.check_chain(&membership.chain)?;
        let owner = (membership.identity.installation_id, membership.identity.cluster_id, membership.node);
        let leaf = StoredCertificate::open(&membership.dir, owner, &membership.closed)?;
        let remembered = StoredTime::remembered(&membership.dir, &boot, Clock::new().now())?;
        let pools = Pools::of_contract(&membership.bootstrap.contract)?;
        let allocation = allocation_of(&data, &membership, pools)?;
        let grants = stored_grants(&membership.dir)?;
        Ok((membership, leaf, grants, allocation, remembered))
    })
    .await?;
    let limits = CacheLimits { max_bytes: config.cache_bytes, ..CacheLimits::default() };
    let cache = Cache::open(&membership.dir, membership.identity.cluster_id, limits);
    let cache = cache.await?;
    let stored = stored_snapshots(&cache).await.unwrap_or_else(|fault| {
        // What cannot be read is fetched again.
        tracing::warn!(reason = %fault.reason, error = %fault, "stored snapshots are not readable");
        Vec::new()
    });
    let launch = launch(config, &membership, &allocation);
    let addresses = own_endpoints((launch.listen_link, launch.listen_wireguard));
    let settings = NodeSettings {
        pinned: membership.pinned(),
        floors: membership.trust_floors(),
        grants: (membership.break_glass_pins(), grants),
        wireguard_private_key: membership.wireguard_key.clone(),
        contact: ContactFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: boot_id.clone(),
            instance: rand::random(),
            capabilities: capabilities(config),
            link_hints: addresses.0.clone(),
            wireguard_hints: addresses.1.clone(),
        },
        audit: membership.audit.clone(),
        remembered,
        loopback: (config.loopback_endpoints || membership.identity.dev).into(),
        path_terms: PathTerms {
            lifetime_s: u32::try_from(config.path_lifetime.as_secs()).unwrap_or_default(),
            attachments_max: config.attachments_max,
            ..PathTerms::default()
        },
    };
    let node = Node::start(settings, &stored, leaf.clone().map(Into::into), Clock::new().now());
    claim.take(match node.acceptor().newest() {
        Some(snapshot) => Pools::of_own(node.acceptor().own_addresses(snapshot).as_ref()),
        None => allocation.pools.clone(),
    })?;
    Ok(Opened { membership, found, cache, node, leaf, allocation, launch, addresses, boot_id })
}

/// How to start the data plane with this allocation.
fn launch(config: &Config, membership: &Membership, allocation: &HostAllocation) -> Launch {
    Launch {
        program: config.dataplane_bin.clone().map(absolute),
        membership: membership.dir.name().to_string(),
        run_dir: config.run_dir.clone(),
        listen_link: allocation.link(config),
        listen_wireguard: allocation.wireguard(config),
        interface: allocation.interface(config),
        bounds_dir: config.bounds.folder.clone(),
        no_tun: config.no_tun,
        log: config.log.clone(),
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
