//! Reads the chain of revocations from the database, and compares it with this replica's floor.
//!
//! Refuses to trust a row: what is not in the signed chain did not happen, and what this replica has seen
//! signed cannot go away.

use rap_authority::{FloorOf, known_features};
use rap_contract::{KnownRevocations, Reject, RevocationChain};
use rap_store::{
    NodeRow, PgConnection, REVOCATIONS_MOST, RevocationRow, SignedCopy, restore_newest, revocations_from,
};
use rap_types::{IdentityStatus, KeyId, Reason};

use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;

impl Serving {
    /// The chain of revocations as a transaction sees it that signed none of it. Take the cluster's lock first to sign
    /// the next record.
    ///
    /// # Errors
    /// As [`Self::revocations`].
    pub async fn revocations_now(
        &self,
        connection: &mut PgConnection,
        cluster: &Cluster,
    ) -> Result<KnownRevocations, Failure> {
        let known = cluster.revocations.known();
        self.revocations(connection, cluster, &known).await
    }

    /// The chain of revocations as `connection` sees it, read on from `known` and not below the floor.
    ///
    /// # Errors
    /// `floor.rollback`, `floor.equivocation`, those of the chain: all of them are alarms.
    pub async fn revocations(
        &self,
        connection: &mut PgConnection,
        cluster: &Cluster,
        known: &KnownRevocations,
    ) -> Result<KnownRevocations, Failure> {
        let mut next = known.clone();
        let mut newer: Option<Cluster> = None;
        loop {
            let mut rows = revocations_from(connection, cluster.id, next.from(), REVOCATIONS_MOST).await?;
            if rows.len() < REVOCATIONS_MOST as usize {
                let from = rows.last().map_or(next.from(), |row| row.sequence + 1);
                rows.extend(self.lost_revocations(connection, cluster, from).await?);
            }
            let by = newer.as_ref().unwrap_or(cluster);
            let judged = self.judged(by, &next, &rows);
            next = match judged {
                // Perhaps by an authority that this replica has not heard of yet: it looks before it alarms.
                Err(reject) if reject.reason == Reason::KeyUnknown && newer.is_none() => {
                    newer = self.rotated(connection, cluster).await?;
                    match &newer {
                        Some(newer) => self.judge_revocations(newer, &next, &rows)?,
                        None => return Err(self.alarm_of_revocations(cluster, &reject)),
                    }
                }
                Err(reject) => return Err(self.alarm_of_revocations(cluster, &reject)),
                Ok(judged) => judged,
            };
            if rows.len() < REVOCATIONS_MOST as usize {
                return Ok(next);
            }
        }
    }

    /// Records up to the floor that the database does not have, from this replica's copies. They are put back then.
    async fn lost_revocations(
        &self,
        connection: &mut PgConnection,
        cluster: &Cluster,
        from: u64,
    ) -> Result<Vec<RevocationRow>, Failure> {
        let floor =
            self.database.floors.current().and_then(|floors| floors.of(FloorOf::Revocations(cluster.id)));
        if floor.is_none_or(|floor| floor.sequence < from) {
            return Ok(Vec::new());
        }
        let mut lost: Vec<RevocationRow> = Vec::new();
        let copies = self.database.copies.since(restore_newest(connection).await?);
        for copy in copies {
            if let SignedCopy::Revocation { cluster: of, sequence, record } = copy
                && of == cluster.id
                && sequence >= from
                && floor.is_some_and(|floor| sequence <= floor.sequence)
            {
                lost.push(RevocationRow { sequence, record });
            }
        }
        lost.sort_by_key(|row| row.sequence);
        if !lost.is_empty() {
            self.heal.notify_one();
        }
        Ok(lost)
    }

    /// As [`Self::revocations`], for rows that were read already.
    pub fn judge_revocations(
        &self,
        cluster: &Cluster,
        known: &KnownRevocations,
        rows: &[RevocationRow],
    ) -> Result<KnownRevocations, Failure> {
        self.judged(cluster, known, rows).map_err(|reject| self.alarm_of_revocations(cluster, &reject))
    }

    fn judged(
        &self,
        cluster: &Cluster,
        known: &KnownRevocations,
        rows: &[RevocationRow],
    ) -> Result<KnownRevocations, Reject> {
        let records: Vec<&[u8]> = rows.iter().map(|row| row.record.as_slice()).collect();
        let features = known_features(self.keys.installation.facts.dev);
        let next = known.with_stored(&records, &cluster.chain, features)?;
        self.check_floor(cluster, &next.chain).map(|()| next)
    }

    fn alarm_of_revocations(&self, cluster: &Cluster, reject: &Reject) -> Failure {
        self.watch.alarm(reject.reason, &format!("revocations of cluster {}: {}", cluster.id, reject.what));
        Failure::new(reject.reason, reject.what)
    }

    /// The cluster as the database has it, if it knows more authority records; its publisher is woken and
    /// takes it over.
    async fn rotated(
        &self,
        connection: &mut PgConnection,
        cluster: &Cluster,
    ) -> Result<Option<Cluster>, Failure> {
        let loaded = Cluster::load(
            connection,
            &self.keys.installation.facts,
            &self.keys.keyring(&self.database.floors),
            cluster.id,
        )
        .await?;
        let newer = loaded.filter(|loaded| loaded.chain.sequence() > cluster.chain.sequence());
        if newer.is_some() {
            cluster.wake.changed();
        }
        Ok(newer)
    }

    fn check_floor(&self, cluster: &Cluster, chain: &RevocationChain) -> Result<(), Reject> {
        let floors = self.database.floors.current().unwrap_or_default();
        let Some(floor) = floors.of(FloorOf::Revocations(cluster.id)) else { return Ok(()) };
        match chain.digest_at(floor.sequence) {
            None => Err(Reject::new(Reason::FloorRollback, "shorter than what this replica has seen")),
            Some(digest) if digest != floor.digest => {
                Err(Reject::new(Reason::FloorEquivocation, "another record than this replica has seen"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether the node behind a row is a member, by the row and by the chain.
    ///
    /// # Errors
    /// `node.revoked`, `node.unknown`; `row.tampered`, with an alarm, if row and chain contradict.
    pub fn require_member(&self, row: &NodeRow, chain: &RevocationChain) -> Result<(), Failure> {
        let node = row.node.node;
        let key = KeyId::of(&row.node.node_public_key);
        let revoked = || Failure::new(Reason::NodeRevoked, "the node's key was revoked");
        match row.identity_status {
            IdentityStatus::Active | IdentityStatus::Draining
                if chain.admits(node, &key, row.key_generation) =>
            {
                Ok(())
            }
            IdentityStatus::Active | IdentityStatus::Draining => {
                let text = format!("node {node} is a member by its row, and the revocations do not admit it");
                self.watch.alarm(Reason::RowTampered, &text);
                let gone = chain.gone(node).is_some() || chain.bars(&key);
                Err(if gone { revoked() } else { Failure::new(Reason::RowTampered, "node") })
            }
            IdentityStatus::Revoked => Err(revoked()),
            IdentityStatus::Left => Err(Failure::new(Reason::NodeUnknown, "the node left this cluster")),
            IdentityStatus::Pending => Err(Failure::new(Reason::NodeUnknown, "no such node in this cluster")),
        }
    }
}
