//! `rap-control-plane floors`: what this replica never goes below, and a person's word for it.
//!
//! Owns the one way to set a floor that is not learned from signatures: somebody with access to this
//! host compares the printed sequence with another replica and types it. Refuses to take that word over
//! the network: who may give it is what a replica without floors cannot know.

use rap_authority::{
    AdmittedRoleGrants, AuditKey, Floor, FloorOf, ReplicaFloors, RowKeys, SealingKey, first_role_grant,
};
use rap_contract::RoleGrantTerms;
use rap_runtime::Clock;
use rap_store::{AuditWriter, PgConnection, Store, role_grant_set_newest, role_grants_list};
use rap_types::{ClusterId, Digest, KeyId, PlatformRole, Reason, Wall};

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
pub async fn show(config: &Config, data: &DataDir, database: &OpenDatabase) -> Result<FloorsShown, Failure> {
    at(config, data, database, async |host| Ok(host.look().await?.0)).await
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
) -> Result<FloorsShown, Failure> {
    at(config, data, database, async |host| host.confirm_set(sequence, lower).await).await
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
) -> Result<FloorsShown, Failure> {
    let confirm = async |host: &Host<'_>| {
        let (shown, installation) = host.look().await?;
        let (id, before, at, meaning) = admit(&shown, cluster, which, sequence, lower)?;
        let object = format!("cluster/{id}/{}", which.word());
        host.note(&installation, Some(id), object, before, at, &meaning).await?;
        host.floors.confirm(which.of(id), at).await?;
        Ok(host.look().await?.0)
    };
    at(config, data, database, confirm).await
}

/// Does work at this replica's floors and its database.
async fn at(
    config: &Config,
    data: &DataDir,
    database: &OpenDatabase,
    work: impl AsyncFnOnce(&Host<'_>) -> Result<FloorsShown, Failure>,
) -> Result<FloorsShown, Failure> {
    let floors = FloorFile::open(data.file(FLOORS_FILE))?;
    database.with_store(async |store| work(&Host { config, data, store, floors }).await).await
}

/// This replica as its host sees it.
struct Host<'a> {
    config: &'a Config,
    data: &'a DataDir,
    store: &'a Store,
    floors: FloorFile,
}

impl Host<'_> {
    async fn confirm_set(&self, sequence: u64, lower: bool) -> Result<FloorsShown, Failure> {
        let (shown, installation) = self.look().await?;
        let before = self.floors.current().and_then(|floors| floors.of(FloorOf::GrantSet));
        let newest = match &shown.newest_set {
            Some(set) => Floor { sequence: set.sequence, digest: set.digest },
            // Activated by a version that knew no sets.
            None if sequence == 1 && before.is_none_or(|floor| floor.sequence == 0) => {
                self.make_first(&installation).await?
            }
            None => {
                return Err(Failure::new(Reason::ResourceNotFound, "the database holds no role-grant set"));
            }
        };
        if newest.sequence != sequence {
            let text = format!("the newest role-grant set has sequence {}, not {sequence}", newest.sequence);
            return Err(Failure::new(Reason::RequestConflict, text));
        }
        let below = before.is_some_and(|floor| {
            floor.sequence > sequence || (floor.sequence == sequence && floor.digest != newest.digest)
        });
        if below && !lower {
            let text = "below this replica's floor: if the database was restored on purpose, stop every replica and give --lower";
            return Err(Failure::new(Reason::FloorRollback, text));
        }
        let object = format!("role-grant-set/{sequence}");
        self.note(&installation, None, object, before, newest, "").await?;
        self.floors.confirm(FloorOf::GrantSet, newest).await?;
        Ok(self.look().await?.0)
    }

    async fn look(&self) -> Result<(FloorsShown, Installation), Failure> {
        let kek = self.data.sealing_key(self.config)?;
        let dev = self.config.mode == AuthorityMode::Dev;
        let mut snapshot = self.store.system().begin_snapshot().await?;
        let (installation, _) =
            Installation::load(&mut snapshot, dev, &kek, self.data.roots(self.config)?).await?;
        let newest_set = newest(&mut snapshot, &installation).await?.map(|admitted| NewestSet {
            sequence: admitted.at().sequence,
            digest: admitted.at().digest,
            issued_at_ms: admitted.grants().set().issued_at.0,
            grants: admitted.grants().live().iter().map(shown_grant).collect(),
        });
        let current = self.floors.current();
        let known = current.clone().unwrap_or_default();
        let clusters = clusters::look(&mut snapshot, &installation.facts, &kek, &known).await?;
        Ok((FloorsShown { schema: "rap.floors.v1", floors: current, newest_set, clusters }, installation))
    }

    /// Grant 1 of set 1 from the activation manifest, which is verified.
    async fn make_first(&self, installation: &Installation) -> Result<Floor, Failure> {
        let activation = installation.activated()?;
        let now = Clock::new().now().wall;
        let (name, key) = (&activation.terms.owner_name, activation.terms.owner_key);
        let change = first_role_grant(&installation.role_grant_scope(), name, key, now)?;
        let kek = self.data.sealing_key(self.config)?;
        let rows = RowKeys::of_installation(installation.facts.id, &kek);
        let mut transaction = self.store.system().begin().await?;
        store_change(&mut transaction, &rows, &change, now).await?;
        let entry = Change::of("grant.add", format!("operator/{name}")).after(change.terms.digest);
        let acting = acting(&kek, installation, now);
        entry.because("first owner").record(&mut transaction, &acting).await?;
        transaction.commit().await?;
        Ok(change.set.at)
    }

    async fn note(
        &self,
        installation: &Installation,
        cluster: Option<ClusterId>,
        object: String,
        before: Option<Floor>,
        after: Floor,
        meaning: &str,
    ) -> Result<(), Failure> {
        let mut reason = match before {
            Some(floor) => format!("the floor was {}", floor.sequence),
            None => "there was no floor".to_owned(),
        };
        if !meaning.is_empty() {
            reason = format!("{reason}; {meaning}");
        }
        let kek = self.data.sealing_key(self.config)?;
        let acting = acting(&kek, installation, Clock::new().now().wall);
        let change = Change::of("floors.confirm", object).before(before.map(|floor| floor.digest));
        let change = change.inside(cluster).after(after.digest).because(reason);
        let mut transaction = self.store.system().begin().await?;
        change.record(&mut transaction, &acting).await?;
        Ok(transaction.commit().await?)
    }
}

fn acting(kek: &SealingKey, installation: &Installation, now: Wall) -> Acting {
    Acting::alone("host", AuditWriter::new(AuditKey::of(kek, [], installation.facts.id)), now)
}

/// Cluster, floor before, floor to be, and what that means.
fn admit(
    shown: &FloorsShown,
    cluster: &str,
    which: Which,
    sequence: u64,
    lower: bool,
) -> Result<(ClusterId, Option<Floor>, Floor, String), Failure> {
    // A row without a verified name answers to its id alone.
    let named =
        |one: &&ClusterFloors| is_meant(one.cluster_id, one.name.as_deref().unwrap_or_default(), cluster);
    let mut named = shown.clusters.iter().filter(named);
    let (found, other) = (named.next(), named.next());
    let text = "no cluster has this id, or this name and a row that says so: give the id";
    let found = found.ok_or_else(|| Failure::new(Reason::ResourceNotFound, text))?;
    if other.is_some() {
        return Err(Failure::new(Reason::RequestConflict, "two clusters have this name: give the id"));
    }
    let Some(beside) = found.one(which) else {
        let reason = found.refused.unwrap_or(Reason::ServerInternal);
        return Err(Failure::new(reason, "the chains of this cluster do not read"));
    };
    let newest = beside.newest;
    if newest.sequence != sequence {
        let text =
            format!("the {} of the database end at {}, not at {sequence}", which.word(), newest.sequence);
        return Err(Failure::new(Reason::RequestConflict, text));
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
        return Err(Failure::new(Reason::FloorRollback, text));
    }
    Ok((found.cluster_id, beside.floor, newest, meaning))
}

async fn newest(
    snapshot: &mut PgConnection,
    installation: &Installation,
) -> Result<Option<AdmittedRoleGrants>, Failure> {
    let Some(set) = role_grant_set_newest(snapshot).await? else { return Ok(None) };
    let rows = role_grants_list(snapshot).await?;
    Ok(Some(installation.role_grant_verifier().open(&set, &stored(&rows))?))
}

fn shown_grant(terms: &RoleGrantTerms) -> GrantShown {
    GrantShown { name: terms.name.clone(), platform_role: terms.role, key: terms.subject.id() }
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
