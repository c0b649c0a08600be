//! The tables that are backed up, as the catalogue tells, parents before children.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::query::{all, plain_row, statements};
use crate::{DatabaseTarget, Result, StoreError, roles::DatabaseRole};

/// One table and the statements made for it. PostgreSQL quoted the names in them.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) copy_out: String,
    pub(super) copy_in: String,
    pub(super) unlock: String,
    pub(super) relock: String,
    pub(super) clear: String,
    /// Tables that its rows point at.
    parents: Vec<String>,
    /// Role `system` sees every row.
    pub(super) whole: bool,
}

plain_row!(Table { name, copy_out, copy_in, unlock, relock, clear, parents, whole });

statements! {
    /// Every table, by name.
    async fn backup_tables() -> Vec<Table> = all "WITH shaped AS ( \
            SELECT c.oid, c.relname::text AS name, ( \
                SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a \
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns \
            FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' \
                AND c.relname NOT IN ('_sqlx_migrations', 'operator_sessions')) \
        SELECT name, \
            format('COPY (SELECT %s FROM public.%I AS backed_up ORDER BY backed_up::text COLLATE \"C\") TO STDOUT', \
                columns, name) AS copy_out, \
            format('COPY public.%I (%s) FROM STDIN', name, columns) AS copy_in, \
            format('ALTER TABLE public.%I NO FORCE ROW LEVEL SECURITY, DISABLE TRIGGER USER', name) AS unlock, \
            format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY, ENABLE TRIGGER USER', name) AS relock, \
            format('DELETE FROM public.%I', name) AS clear, \
            ARRAY(SELECT DISTINCT r.relname::text FROM pg_constraint k JOIN pg_class r ON r.oid = k.confrelid \
                WHERE k.conrelid = shaped.oid AND k.contype = 'f' AND k.confrelid <> k.conrelid) AS parents, \
            EXISTS (SELECT FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = name \
                AND 'rap_system' = ANY (p.roles) AND p.qual = 'true' AND p.cmd IN ('ALL', 'SELECT')) AS whole \
        FROM shaped ORDER BY name";
    /// Statements that set each counter to what the rows have used.
    pub(super) async fn sequences() -> Vec<String> = all "SELECT format('SELECT setval(%L::regclass, greatest(coalesce(max(%I), 1), 1)) FROM public.%I', \
            pg_get_serial_sequence(quote_ident(c.relname), a.attname), a.attname, c.relname) \
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped \
            AND pg_get_serial_sequence(quote_ident(c.relname), a.attname) IS NOT NULL";
}

/// Every table, parents before children.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<Table>> {
    ordered(backup_tables(connection).await?)
}

fn ordered(mut left: Vec<Table>) -> Result<Vec<Table>> {
    let (mut done, mut ordered) = (BTreeSet::new(), Vec::with_capacity(left.len()));
    while !left.is_empty() {
        let (ready, waiting): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|table| table.parents.iter().all(|parent| done.contains(parent)));
        if ready.is_empty() {
            return Err(StoreError::Violated { constraint: "tables that point at each other".to_owned() });
        }
        done.extend(ready.iter().map(|table| table.name.clone()));
        ordered.extend(ready);
        left = waiting;
    }
    Ok(ordered)
}

/// Options of a connection on which the same rows are always the same text, and that may take its time.
pub(super) fn patient(target: &DatabaseTarget, role: DatabaseRole) -> PgConnectOptions {
    target.options(role).options([
        ("timezone", "UTC"),
        ("datestyle", "ISO"),
        ("intervalstyle", "postgres"),
        ("bytea_output", "hex"),
        ("extra_float_digits", "1"),
        ("client_encoding", "UTF8"),
        ("statement_timeout", "0"),
        ("lock_timeout", "60s"),
        ("idle_in_transaction_session_timeout", "0"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, parents: &[&str]) -> Table {
        let text = || String::new();
        Table {
            name: name.to_owned(),
            copy_out: text(),
            copy_in: text(),
            unlock: text(),
            relock: text(),
            clear: text(),
            parents: parents.iter().map(|&parent| parent.to_owned()).collect(),
            whole: true,
        }
    }

    #[test]
    fn parents_come_first_and_a_circle_is_refused() {
        let tables = vec![table("a", &["c"]), table("b", &["a", "c"]), table("c", &[])];
        let names: Vec<String> = ordered(tables).unwrap().into_iter().map(|table| table.name).collect();
        assert_eq!(names, ["c", "a", "b"]);
        assert!(ordered(vec![table("a", &["b"]), table("b", &["a"])]).is_err());
    }
}
