//! The three database roles, and the check at start that the two serving roles cannot bypass row-level security.

use rap_types::Reason;
use sqlx::{PgConnection, Row};

use crate::StoreError;
use crate::query::{one, optional, statements};

/// Who a connection is to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseRole {
    /// Owns the tables; used for migrations alone. Forced row-level security hides every row from it.
    Owner,
    /// Organization-facing handlers: sees the rows of the organization its transaction names.
    App,
    /// Planner, reconcilers and platform handlers: explicit policies on every table.
    System,
}

impl DatabaseRole {
    /// Name of the role in PostgreSQL. An external database may name its owner otherwise.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "rap_owner",
            Self::App => "rap_app",
            Self::System => "rap_system",
        }
    }
}

/// The database would not hold an organization's rows apart.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// A serving role has a right it must not have.
    #[error("database role `{role}` {problem}")]
    Role {
        /// Connected role.
        role: String,
        /// Which right.
        problem: &'static str,
    },
    /// A table could be read past its policies.
    #[error("table `{0}` lacks ENABLE or FORCE ROW LEVEL SECURITY")]
    Table(String),
    /// A view runs with its owner's rights.
    #[error("view `{0}` lacks security_invoker")]
    View(String),
    /// A policy shows an organization's handlers more than that organization's rows.
    #[error("policy `{policy}` of table `{table}` does not hold organizations apart")]
    Policy {
        /// Name of the policy.
        policy: String,
        /// Table that it belongs to.
        table: String,
    },
    /// The catalogue could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RoleError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Role { .. } | Self::Table(_) | Self::View(_) | Self::Policy { .. } => Reason::PostgresRole,
            Self::Store(error) => error.reason(),
        }
    }
}

statements! {
    ROLE_RIGHTS = "SELECT current_user::text AS role, \
        (current_user <> session_user) AS disguised, \
        bool_or(m.rolsuper) AS superuser, \
        bool_or(m.rolbypassrls) AS bypass, \
        bool_or(m.rolcreaterole) AS createrole, \
        bool_or(EXISTS (SELECT 1 FROM pg_catalog.pg_class c \
            WHERE c.relnamespace = 'public'::regnamespace AND c.relowner = m.oid)) AS owner \
        FROM pg_catalog.pg_roles m \
        WHERE pg_has_role(session_user, m.oid, 'MEMBER')";
    /// A table that lacks row-level security.
    async fn open_table() -> Option<String> = optional "SELECT c.relname::text AS name FROM pg_catalog.pg_class c \
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') \
            AND c.relname <> '_sqlx_migrations' AND NOT (c.relrowsecurity AND c.relforcerowsecurity) \
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d \
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
        ORDER BY c.relname LIMIT 1";
    /// A view that lacks `security_invoker`.
    async fn open_view() -> Option<String> = optional "SELECT c.relname::text AS name FROM pg_catalog.pg_class c \
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('v', 'm') \
            AND NOT coalesce(c.reloptions @> ARRAY['security_invoker=true'], false) \
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d \
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
        ORDER BY c.relname LIMIT 1";
    /// The connected role, and whether it is, or may become, the role of this name.
    async fn is_member_of(role: &str) -> (String, bool) = one
        "SELECT session_user::text AS role, pg_has_role(session_user, $1::name, 'MEMBER') AS member";
    /// A policy, and its table, that shows the connected role more than this condition does: restrictive ones only
    /// take rows away.
    async fn wide_policy(condition: &str) -> Option<(String, String)> = optional
        "SELECT p.polname::text AS policy, c.relname::text AS table_name \
        FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid \
        WHERE c.relnamespace = 'public'::regnamespace AND p.polpermissive \
            AND EXISTS (SELECT 1 FROM unnest(p.polroles) AS r (oid) \
                WHERE CASE WHEN r.oid = 0 THEN true ELSE pg_has_role(session_user, r.oid, 'MEMBER') END) \
            AND (coalesce(pg_get_expr(p.polqual, p.polrelid), $1) <> $1 \
                OR coalesce(pg_get_expr(p.polwithcheck, p.polrelid), $1) <> $1) \
        ORDER BY c.relname, p.polname LIMIT 1";
}

/// Refuses a connection that could step outside row-level security: its role, or any role it may
/// become, is superuser, bypasses row-level security, makes roles, or owns a table; or a table or
/// view of the schema is open. What an extension brought along is not ours to judge.
pub(crate) async fn check_role(connection: &mut PgConnection) -> Result<(), RoleError> {
    let row = sqlx::query(ROLE_RIGHTS).fetch_one(&mut *connection).await.map_err(StoreError::from)?;
    let role: String = row.try_get("role").map_err(StoreError::from)?;
    for (column, problem) in PROBLEMS {
        if row.try_get(*column).map_err(StoreError::from)? {
            return Err(RoleError::Role { role, problem });
        }
    }
    if let Some(name) = open_table(connection).await? {
        return Err(RoleError::Table(name));
    }
    if let Some(name) = open_view(connection).await? {
        return Err(RoleError::View(name));
    }
    Ok(())
}

/// Refuses a role of the organizations' connections that is, or may become, the role `system`, and one to which a
/// policy shows more than the rows of the organization that its transaction names.
pub(crate) async fn check_organizations_role(
    connection: &mut PgConnection,
    system: &str,
) -> Result<(), RoleError> {
    let (role, member) = is_member_of(connection, system).await?;
    if member {
        return Err(RoleError::Role { role, problem: "is, or may become, the role of the planner" });
    }
    if let Some((policy, table)) = wide_policy(connection, OWN_ORGANIZATION).await? {
        return Err(RoleError::Policy { policy, table });
    }
    Ok(())
}

/// The condition of every policy of the organizations' role, as PostgreSQL prints it.
const OWN_ORGANIZATION: &str = "(organization_id = app_organization())";

const PROBLEMS: &[(&str, &str)] = &[
    ("disguised", "was reached by SET ROLE and could be left again"),
    ("superuser", "is, or may become, superuser"),
    ("bypass", "has, or may take, BYPASSRLS"),
    ("createrole", "may make roles"),
    ("owner", "owns, or may become the owner of, tables"),
];
