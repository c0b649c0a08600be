//! Which platform role may do what: one table.
//!
//! Owns the table. Refuses to own which operator has a role: signed role grants state that.

use rap_contract::Reject;
use rap_types::{PlatformRole, Reason};

macro_rules! permissions {
    ($($(#[$doc:meta])+ $variant:ident $name:literal [$($role:ident)+];)+) => {
        /// What an operator's call needs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Permission { $($(#[$doc])+ $variant),+ }

        impl Permission {
            /// Every permission, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in documents and refusals.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The roles that have it.
            pub const fn roles(self) -> &'static [PlatformRole] {
                match self { $(Self::$variant => &[$(PlatformRole::$role),+]),+ }
            }
        }
    };
}

permissions! {
    /// End one's own session.
    SessionEnd "session.end" [Owner Admin Recovery];
    /// Overview of the installation.
    StatusRead "status.read" [Owner Admin];
    /// List and show clusters.
    ClusterRead "cluster.read" [Owner Admin];
    /// Create a cluster.
    ClusterCreate "cluster.create" [Owner Admin];
    /// List join tokens.
    TokenRead "token.read" [Owner Admin];
    /// Create a join token.
    TokenCreate "token.create" [Owner Admin];
    /// Revoke a join token.
    TokenRevoke "token.revoke" [Owner Admin];
    /// List and show nodes and join requests.
    NodeRead "node.read" [Owner Admin];
    /// Approve or deny join requests.
    NodeDecide "node.decide" [Owner Admin];
    /// Change the signed facts of a node.
    NodeUpdate "node.update" [Owner Admin];
    /// Revoke or remove a node.
    NodeRevoke "node.revoke" [Owner Admin];
    /// Export a node's snapshot.
    NodeExport "node.export" [Owner Admin];
    /// Ask a node for a diagnosis.
    NodeDiagnose "node.diagnose" [Owner Admin];
    /// Change the policy of a cluster.
    PolicyChange "policy.change" [Owner Admin];
    /// Write policies anew whose rows are gone.
    PolicyRestore "policy.restore" [Owner];
    /// Read, verify and export the audit log.
    AuditRead "audit.read" [Owner Admin];
    /// Begin a new generation of the audit log after history was lost.
    AuditRestart "audit.restart" [Owner];
    /// See who holds which platform role.
    GrantRead "grant.read" [Owner Admin Recovery];
    /// Grant or revoke any platform role.
    GrantChange "grant.change" [Owner];
    /// Grant `platform_owner`, to restore an owner.
    GrantRestoreOwner "grant.restore_owner" [Owner Recovery];
    /// See the authorities of a cluster.
    AuthorityRead "authority.read" [Owner Admin Recovery];
    /// Rotate, taint or revoke a cluster authority.
    AuthorityRotate "authority.rotate" [Owner];
    /// Recover a cluster authority by the installation authority.
    AuthorityRecover "authority.recover" [Owner Recovery];
    /// Replace the data key of a cluster.
    DataKeyRotate "data_key.rotate" [Owner];
    /// Sign a break-glass grant.
    BreakGlassGrant "break_glass.grant" [Owner];
}

impl Permission {
    /// Whether `role` has this permission.
    ///
    /// # Errors
    /// `grant.missing`, naming the permission.
    pub fn check(self, role: PlatformRole) -> Result<(), Reject> {
        if self.roles().contains(&role) {
            Ok(())
        } else {
            Err(Reject::new(Reason::GrantMissing, self.name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Permission, owner, admin, recovery; written down apart from the table above.
    const EXPECTED: &[(&str, bool, bool, bool)] = &[
        ("session.end", true, true, true),
        ("status.read", true, true, false),
        ("cluster.read", true, true, false),
        ("cluster.create", true, true, false),
        ("token.read", true, true, false),
        ("token.create", true, true, false),
        ("token.revoke", true, true, false),
        ("node.read", true, true, false),
        ("node.decide", true, true, false),
        ("node.update", true, true, false),
        ("node.revoke", true, true, false),
        ("node.export", true, true, false),
        ("node.diagnose", true, true, false),
        ("policy.change", true, true, false),
        ("policy.restore", true, false, false),
        ("audit.read", true, true, false),
        ("audit.restart", true, false, false),
        ("grant.read", true, true, true),
        ("grant.change", true, false, false),
        ("grant.restore_owner", true, false, true),
        ("authority.read", true, true, true),
        ("authority.rotate", true, false, false),
        ("authority.recover", true, false, true),
        ("data_key.rotate", true, false, false),
        ("break_glass.grant", true, false, false),
    ];

    #[test]
    fn every_row_of_the_table_allows_exactly_its_roles() {
        assert_eq!(Permission::ALL.len(), EXPECTED.len());
        for (permission, (name, owner, admin, recovery)) in Permission::ALL.iter().zip(EXPECTED) {
            assert_eq!(permission.name(), *name);
            for (role, allowed) in [
                (PlatformRole::Owner, owner),
                (PlatformRole::Admin, admin),
                (PlatformRole::Recovery, recovery),
            ] {
                let found = permission.check(role);
                assert_eq!(found.is_ok(), *allowed, "{name} {role}");
                if let Err(reject) = found {
                    assert_eq!((reject.reason, reject.what), (Reason::GrantMissing, *name));
                }
            }
        }
    }
}
