//! One change of rows: what it says in the audit log, and in the outbox if nodes see it.
//!
//! The only file that writes audit rows and outbox rows. Refuses to own what is changed (`acts`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rap_authority::ids;
use rap_runtime::output::bounded;
use rap_store::{
    AuditWriter, NewAuditRow, StoreError, SystemTransaction, audit_insert, config_seq_allocate, outbox_append,
};
use rap_types::{ClusterId, Digest, OrganizationId, RequestId, Wall};

use crate::database::claim::Claim;

/// Most characters of the reason that an operator gives.
pub(crate) const REASON_CAP: usize = 256;

/// Who acts, and why: what all audit rows of one act have in common.
#[derive(Debug, Clone)]
pub struct Acting {
    /// As the audit log names whoever acts: `operator:NAME`, `node:ID`, `token:ID`, `system`, `host`.
    pub actor: String,
    /// What the audit rows are written with.
    pub pen: AuditWriter,
    /// The call.
    pub call: RequestId,
    /// Words of whoever acts.
    pub reason: String,
    /// The transaction will be rolled back: nothing is signed, and nothing is written to the audit log. Whoever
    /// reads what the database writes would keep both.
    pub dry_run: bool,
    /// Whether something that follows from the act could not be done.
    pub pending: Pending,
    /// The key of the call.
    pub claim: Claim,
}

/// Set once something that follows from a committed act could not be done: the answer then says so. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Pending(Arc<AtomicBool>);

impl Pending {
    /// From now on it is set.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Acting {
    /// Nobody's call: `actor` is `system` for the control plane itself, `host` for a person at this host.
    pub fn alone(actor: &str, pen: AuditWriter, now: Wall) -> Self {
        let call = RequestId::from_parts(ids::millis(now), ids::random(&mut rand::rng()));
        let (actor, pending, claim) = (actor.to_owned(), Pending::default(), Claim::default());
        Self { actor, pen, call, reason: String::new(), dry_run: false, pending, claim }
    }
}

/// One change. It is in the audit log once it is recorded.
#[derive(Debug, Clone)]
#[must_use = "a change is recorded in the transaction that makes it"]
pub struct Change {
    action: &'static str,
    object: String,
    cluster: Option<ClusterId>,
    organization: Option<OrganizationId>,
    before: Option<Digest>,
    after: Option<Digest>,
    reason: Option<String>,
    touched: Option<(ClusterId, Vec<String>, bool)>,
}

impl Change {
    /// `action` on `object`, as the audit log names them.
    pub fn of(action: &'static str, object: impl Into<String>) -> Self {
        let (object, reason, touched) = (object.into(), None, None);
        let (cluster, organization, before, after) = (None, None, None, None);
        Self { action, object, cluster, organization, before, after, reason, touched }
    }

    /// A change in a cluster, if it is one.
    pub fn inside(self, cluster: impl Into<Option<ClusterId>>) -> Self {
        Self { cluster: cluster.into(), ..self }
    }

    /// A change of what belongs to an organization, if it does.
    pub fn owned_by(self, organization: Option<OrganizationId>) -> Self {
        Self { organization, ..self }
    }

    /// Digest of what was there before.
    pub fn before(self, digest: impl Into<Option<Digest>>) -> Self {
        Self { before: digest.into(), ..self }
    }

    /// Digest of what is there now.
    pub fn after(self, digest: impl Into<Option<Digest>>) -> Self {
        Self { after: digest.into(), ..self }
    }

    /// Other words than those of whoever acts.
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// Nodes of `cluster` see it: it makes a new version. An `urgent` one passes every debounce.
    pub fn touches<T: Into<String>>(
        self,
        cluster: ClusterId,
        scopes: impl IntoIterator<Item = T>,
        urgent: bool,
    ) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        Self { touched: Some((cluster, scopes, urgent)), ..self }
    }

    /// Writes the outbox row, if nodes see the change, and the audit row, unless it is a dry run. Returns the version that says it.
    ///
    /// # Errors
    /// What the database answers, as [`StoreError`](rap_store::StoreError) or its reason.
    pub async fn record(
        self,
        transaction: &mut SystemTransaction,
        acting: &Acting,
    ) -> Result<Option<u64>, StoreError> {
        let version = match &self.touched {
            Some((cluster, scopes, urgent)) => {
                let version = config_seq_allocate(transaction, *cluster).await?;
                outbox_append(transaction, *cluster, version, scopes, *urgent).await?;
                Some(version)
            }
            None => None,
        };
        if acting.dry_run {
            return Ok(version);
        }
        let reason = self.reason.as_ref().unwrap_or(&acting.reason);
        let row = NewAuditRow {
            cluster: self.cluster,
            organization: self.organization,
            actor: acting.actor.clone(),
            action: self.action.to_owned(),
            object: self.object,
            before_digest: self.before,
            after_digest: self.after,
            reason: bounded(reason, 1024),
            request: acting.call,
        };
        audit_insert(transaction, &acting.pen, &row).await?;
        tracing::trace!(way = "the change is in the audit log, and in the outbox if nodes see it");
        Ok(version)
    }
}
