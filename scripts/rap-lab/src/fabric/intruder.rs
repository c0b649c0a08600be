//! Somebody who owns PostgreSQL: reads and writes every table of a control plane as the owner of the schema. Owns nothing of the
//! product; this is what an attacker would do with `psql`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{CALL, Control};
use crate::command::Invocation;
use crate::host::Host;

/// See the module.
#[derive(Debug, Clone)]
pub struct Intruder {
    host: Host,
    socket: PathBuf,
}

impl Intruder {
    /// Breaks into a control plane's private PostgreSQL and lifts row-level security, which does not bind a superuser anyway.
    pub fn into_database_of(control: &Control) -> Result<Self> {
        let intruder = Self { host: control.host().clone(), socket: Self::socket_of(control)? };
        intruder.row_level_security("NO FORCE")?;
        Ok(intruder)
    }

    /// Directory of the socket of a control plane's private PostgreSQL, as its host names it; each start has its own.
    pub fn socket_of(control: &Control) -> Result<PathBuf> {
        let path = control.data().join("postgres/postmaster.pid");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.lines().nth(4).context("no socket directory in postmaster.pid")?.into())
    }

    /// Removes its copies and puts row-level security back, without which a control plane would not start again.
    pub fn leave(&self) -> Result<()> {
        let copies = self.reads(
            "SELECT relname FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname ~ '^(old|new)_'",
        )?;
        let drop_copies: String = copies.lines().map(|name| format!("DROP TABLE {name};\n")).collect();
        self.does(&drop_copies)?;
        self.row_level_security("FORCE")
    }

    /// Runs statements in one transaction; returns what they print, columns separated by `|`.
    pub fn does(&self, statements: &str) -> Result<String> {
        self.psql(&["-1"], statements)
    }

    /// One table after the other, each in a transaction of its own: locks of two tables at once are a deadlock with the
    /// transactions of a control plane, which take them in another order.
    fn row_level_security(&self, word: &str) -> Result<()> {
        let each = format!(
            "DO $$ DECLARE name text; BEGIN
               FOR name IN SELECT relname FROM pg_class
                 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relrowsecurity
               LOOP EXECUTE format('ALTER TABLE %I {word} ROW LEVEL SECURITY', name); COMMIT; END LOOP;
             END $$;"
        );
        self.psql(&[], &each).map(drop)
    }

    fn psql(&self, more: &[&str], statements: &str) -> Result<String> {
        let call = Invocation::new("psql")
            .arguments(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "rap_owner", "-d", "rap"])
            .arguments(more.iter().copied())
            .argument("-h")
            .argument(self.socket.display().to_string())
            .arguments(["-f", "-"])
            .input(statements);
        Ok(self.host.run(&call, CALL)?.success()?.stdout.trim_end().to_owned())
    }

    /// Runs statements that must change exactly one row: an attack that finds nothing to change shows nothing.
    pub fn changes_one(&self, statement: &str) -> Result<()> {
        let counted = format!("WITH changed AS ({statement} RETURNING 1) SELECT count(*) FROM changed");
        let count = self.does(&counted)?;
        ensure!(count == "1", "the attack changed {count} rows: {statement}");
        Ok(())
    }

    /// One value.
    pub fn reads(&self, query: &str) -> Result<String> {
        self.does(query)
    }

    /// Keeps a copy of tables as they are now, under the label `old` or `new`.
    pub fn keeps(&self, label: &str, tables: &[&str]) -> Result<()> {
        let each = tables.iter().map(|table| {
            let copy = format!("{label}_{table}");
            format!("DROP TABLE IF EXISTS {copy}; CREATE TABLE {copy} AS SELECT * FROM {table};\n")
        });
        self.does(&each.collect::<String>()).map(drop)
    }

    /// Puts kept copies back, whole and consistent. Tables are named parents first.
    pub fn puts_back(&self, label: &str, tables: &[&str]) -> Result<()> {
        let lift = |table: &&str| format!("ALTER TABLE {table} DISABLE TRIGGER USER;\n");
        let empty = |table: &&str| format!("DELETE FROM {table};\n");
        let fill = |table: &&str| {
            format!("INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM {label}_{table};\n")
        };
        let restore = |table: &&str| format!("ALTER TABLE {table} ENABLE TRIGGER USER;\n");
        let statements: String = tables
            .iter()
            .map(lift)
            .chain(tables.iter().rev().map(empty))
            .chain(tables.iter().map(fill))
            .chain(tables.iter().map(restore))
            .collect();
        self.does(&statements).map(drop)
    }
}
