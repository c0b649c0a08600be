//! `rap-control-plane floors`: what this replica never goes below, and a person's word for it.
//!
//! Owns the one way to set a floor that is not learned from signatures: somebody with access to this
//! host compares the printed sequence with another replica and types it. Refuses to take that word over
//! the network: who may give it is what a replica without floors cannot know.

use rap_authority::{AdmittedRoleGrants, AuditKey, Floor, FloorOf, ReplicaFloors, RowKeys, first_role_grant};
use rap_contract::RoleGrantTerms;
use rap_runtime::{Clock, Fault};
use rap_store::{AuditPen, PgConnection, Store, StoreError, role_grant_set_newest, role_grants_list};
use rap_types::{ClusterId, Digest, KeyId, PlatformRole, Reason};

use crate::acts::grant_role::store_change;
use crate::commands::floors::clusters;
use crate::commands::floors::clusters::{ClusterFloors, Which};
use crate::config::settings::{AuthorityMode, Config};
use crate::data_dir::DataDir;
use crate::database::change::{Acting, Change};
use crate::database::opened::OpenDatabase;
use crate::database::replica_floors::{FLOORS_FILE, FloorFile};
use crate::failure::Failure;
use crate::keys::installation::Installation;
use crate::serve::clusters::is_meant;
use crate::serve::role_grants::stored;

/// The floors of this replica beside what its database holds.
#[derive(Debug, serde::Serialize)]
pub struct FloorsShown {
    /// `rap.floors.v1`.
    pub schema: &'static str,
    /// The file; absent if there is none.
    pub floors: Option<ReplicaFloors>,
    /// The newest role-grant set of the database, if its signature holds.
    pub newest_set: Option<NewestSet>,
    /// Floors of clusters beside their chains.
    pub clusters: Vec<ClusterFloors>,
}

/// A role-grant set as a person compares it.
#[derive(Debug, serde::Serialize)]
pub struct NewestSet {
    /// Its place in the chain.
    pub sequence: u64,
    /// Its digest.
    pub digest: Digest,
    /// Unix milliseconds.
    pub issued_at_ms: i64,
    /// Whom it lets operate the platform.
    pub grants: Vec<GrantShown>,
}

/// A live grant.
#[derive(Debug, serde::Serialize)]
pub struct GrantShown {
    /// Operator.
    pub name: String,
    /// Role.
    pub platform_role: PlatformRole,
    /// Fingerprint of the key.
    pub key: KeyId,
}

/// Shows floors and newest set.
pub async fn show(config: &Config, data: &DataDir, database: &OpenDatabase) -> Result<FloorsShown, Fault> {
    let floors = FloorFile::open(data.file(FLOORS_FILE))?;
    let store = database.store().await?;
    let shown = look(config, data, &store, &floors).await.map(|(shown, _)| shown);
    store.close().await;
    shown
}

/// Makes the newest stored set, whose sequence the person names, the floor of this replica.
///
/// # Errors
/// `request.conflict` for another sequence, `floor.rollback` if that is below the floor and `lower` is
/// not given, those of verification.
pub async fn confirm(
    config: &Config,
    data: &DataDir,
    database: &OpenDatabase,
    sequence: u64,
    lower: bool,
) -> Result<FloorsShown, Fault> {
    let floors = FloorFile::open(data.file(FLOORS_FILE))?;
    let store = database.store().await?;
    let confirmed = confirm_in(config, data, &store, &floors, sequence, lower).await;
    store.close().await;
    confirmed
}

async fn confirm_in(
    config: &Config,
    data: &DataDir,
    store: &Store,
    floors: &FloorFile,
    sequence: u64,
    lower: bool,
) -> Result<FloorsShown, Fault> {
    let (shown, installation) = look(config, data, store, floors).await?;
    let before = floors.current().and_then(|floors| floors.of(FloorOf::GrantSet));
    let newest = match &shown.newest_set {
        Some(set) => Floor { sequence: set.sequence, digest: set.digest },
        // Activated by a version that knew no sets.
        None if sequence == 1 && before.is_none_or(|floor| floor.sequence == 0) => {
            make_first(config, data, store, &installation).await?
        }
        None => return Err(Fault::new(Reason::ResourceNotFound, "the database holds no role-grant set")),
    };
    if newest.sequence != sequence {
        let text = format!("the newest role-grant set has sequence {}, not {sequence}", newest.sequence);
        return Err(Fault::new(Reason::RequestConflict, text));
    }
    let below = before.is_some_and(|floor| {
        floor.sequence > sequence || (floor.sequence == sequence && floor.digest != newest.digest)
    });
    if below && !lower {
        let text = "below this replica's floor: if the database was restored on purpose, stop every replica and give --lower";
        return Err(Fault::new(Reason::FloorRollback, text));
    }
    let object = format!("role-grant-set/{sequence}");
    note(config, data, store, &installation, None, object, before, newest, "").await?;
    floors.confirm(FloorOf::GrantSet, newest).await.map_err(fault)?;
    look(config, data, store, floors).await.map(|(shown, _)| shown)
}

/// Makes the end of a stored chain of one cluster, whose sequence the person names, the floor of this
/// replica.
///
/// # Errors
/// `request.conflict` for another sequence, `floor.rollback` if the chain lacks what this replica has seen
/// and `lower` is not given, `resource.not_found`, those of verification.
pub(crate) async fn confirm_cluster(
    config: &Config,
    data: &DataDir,
    database: &OpenDatabase,
    (cluster, which): (&str, Which),
    sequence: u64,
    lower: bool,
) -> Result<FloorsShown, Fault> {
    let floors = FloorFile::open(data.file(FLOORS_FILE))?;
    let store = database.store().await?;
    let confirmed = async {
        let (shown, installation) = look(config, data, &store, &floors).await?;
        let (id, before, at, meaning) = admit(&shown, cluster, which, sequence, lower)?;
        let object = format!("cluster/{id}/{}", which.word());
        note(config, data, &store, &installation, Some(id), object, before, at, &meaning).await?;
        floors.confirm(which.of(id), at).await.map_err(fault)?;
        look(config, data, &store, &floors).await.map(|(shown, _)| shown)
    };
    let confirmed = confirmed.await;
    store.close().await;
    confirmed
}

/// Cluster, floor before, floor to be, and what that means.
fn admit(
    shown: &FloorsShown,
    cluster: &str,
    which: Which,
    sequence: u64,
    lower: bool,
) -> Result<(ClusterId, Option<Floor>, Floor, String), Fault> {
    // A row without a verified name answers to its id alone.
    let named =
        |one: &&ClusterFloors| is_meant(one.cluster_id, one.name.as_deref().unwrap_or_default(), cluster);
    let mut named = shown.clusters.iter().filter(named);
    let (found, other) = (named.next(), named.next());
    let text = "no cluster has this id, or this name and a row that says so: give the id";
    let found = found.ok_or_else(|| Fault::new(Reason::ResourceNotFound, text))?;
    if other.is_some() {
        return Err(Fault::new(Reason::RequestConflict, "two clusters have this name: give the id"));
    }
    let Some(beside) = found.one(which) else {
        let reason = found.refused.unwrap_or(Reason::ServerInternal);
        return Err(Fault::new(reason, "the chains of this cluster do not read"));
    };
    let newest = beside.newest;
    if newest.sequence != sequence {
        let text =
            format!("the {} of the database end at {}, not at {sequence}", which.word(), newest.sequence);
        return Err(Fault::new(Reason::RequestConflict, text));
    }
    if beside.holds {
        return Ok((found.cluster_id, beside.floor, newest, String::new()));
    }
    let floor = beside.floor.map_or(0, |floor| floor.sequence);
    let meaning = match floor > sequence {
        true => which.meaning(sequence, floor),
        false => format!("record {floor} is another one than this replica has seen"),
    };
    if !lower {
        let text = format!(
            "below this replica's floor {floor}: if the database was restored on purpose, stop every replica and give --lower; then {meaning}"
        );
        return Err(Fault::new(Reason::FloorRollback, text));
    }
    Ok((found.cluster_id, beside.floor, newest, meaning))
}

async fn look(
    config: &Config,
    data: &DataDir,
    store: &Store,
    floors: &FloorFile,
) -> Result<(FloorsShown, Installation), Fault> {
    let kek = data.sealing_key(config)?;
    let dev = config.mode == AuthorityMode::Dev;
    let mut snapshot = store.system().begin_snapshot().await.map_err(store_fault)?;
    let (installation, _) =
        Installation::load(&mut snapshot, dev, &kek, data.roots(config)?).await.map_err(fault)?;
    let newest = newest(&mut snapshot, &installation).await.map_err(fault)?;
    let newest_set = newest.map(|admitted| NewestSet {
        sequence: admitted.at().sequence,
        digest: admitted.at().digest,
        issued_at_ms: admitted.grants().set().issued_at.0,
        grants: admitted.grants().live().iter().map(shown_grant).collect(),
    });
    let current = floors.current();
    let known = current.clone().unwrap_or_default();
    let clusters = clusters::look(&mut snapshot, &installation.facts, &kek, &known);
    let clusters = clusters.await.map_err(fault)?;
    Ok((FloorsShown { schema: "rap.floors.v1", floors: current, newest_set, clusters }, installation))
}

async fn newest(
    snapshot: &mut PgConnection,
    installation: &Installation,
) -> Result<Option<AdmittedRoleGrants>, Failure> {
    let Some(set) = role_grant_set_newest(snapshot).await? else { return Ok(None) };
    let rows = role_grants_list(snapshot).await?;
    Ok(Some(installation.role_grant_verifier().open(&set, &stored(&rows))?))
}

/// Grant 1 of set 1 from the activation manifest, which is verified.
async fn make_first(
    config: &Config,
    data: &DataDir,
    store: &Store,
    installation: &Installation,
) -> Result<Floor, Fault> {
    let activation = installation.activated().map_err(fault)?;
    let now = Clock::new().now().wall;
    let (name, key) = (&activation.terms.owner_name, activation.terms.owner_key);
    let change = first_role_grant(&installation.role_grant_scope(), name, key, now)
        .map_err(|reject| fault(reject.into()))?;
    let rows = RowKeys::of_installation(installation.facts.id, &data.sealing_key(config)?);
    let mut transaction = store.system().begin().await.map_err(store_fault)?;
    store_change(&mut transaction, &rows, &change, now).await.map_err(fault)?;
    let acting = Acting::alone("host", pen(config, data, installation)?, now);
    let entry = Change::of("grant.add", format!("operator/{name}")).after(change.terms.digest);
    entry.because("first owner").record(&mut transaction, &acting).await.map_err(store_fault)?;
    transaction.commit().await.map_err(store_fault)?;
    Ok(change.set.at)
}

#[allow(clippy::too_many_arguments, reason = "one audit entry and where it is written")]
async fn note(
    config: &Config,
    data: &DataDir,
    store: &Store,
    installation: &Installation,
    cluster: Option<ClusterId>,
    object: String,
    before: Option<Floor>,
    after: Floor,
    meaning: &str,
) -> Result<(), Fault> {
    let now = Clock::new().now().wall;
    let mut reason = match before {
        Some(floor) => format!("the floor was {}", floor.sequence),
        None => "there was no floor".to_owned(),
    };
    if !meaning.is_empty() {
        reason = format!("{reason}; {meaning}");
    }
    let acting = Acting::alone("host", pen(config, data, installation)?, now);
    let change = Change::of("floors.confirm", object).before(before.map(|floor| floor.digest));
    let change = change.inside(cluster).after(after.digest).because(reason);
    let mut transaction = store.system().begin().await.map_err(store_fault)?;
    change.record(&mut transaction, &acting).await.map_err(store_fault)?;
    transaction.commit().await.map_err(store_fault)
}

fn pen(config: &Config, data: &DataDir, installation: &Installation) -> Result<AuditPen, Fault> {
    let kek = data.sealing_key(config)?;
    Ok(AuditPen::new(AuditKey::of(&kek, [], installation.facts.id)))
}

fn shown_grant(terms: &RoleGrantTerms) -> GrantShown {
    GrantShown { name: terms.name.clone(), platform_role: terms.role, key: terms.subject.id() }
}

fn store_fault(error: StoreError) -> Fault {
    fault(error.into())
}

fn fault(failure: Failure) -> Fault {
    Fault::new(failure.reason, failure.message)
}

impl std::fmt::Display for FloorsShown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.floors.as_ref().and_then(|floors| floors.of(FloorOf::GrantSet)) {
            Some(floor) if floor.sequence == 0 => writeln!(f, "floor         before the first set")?,
            Some(floor) => writeln!(f, "floor         {} {}", floor.sequence, floor.digest)?,
            None => writeln!(f, "floor         none: no platform action is allowed here")?,
        }
        match &self.newest_set {
            None => writeln!(f, "newest set    none in the database")?,
            Some(set) => {
                writeln!(f, "newest set    {} {}", set.sequence, set.digest)?;
                for grant in &set.grants {
                    writeln!(f, "  {:<15} {} {}", grant.platform_role.as_str(), grant.key, grant.name)?;
                }
            }
        }
        self.clusters.iter().try_for_each(|cluster| write!(f, "{cluster}"))
    }
}
