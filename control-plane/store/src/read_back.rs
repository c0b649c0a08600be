//! A row with a MAC, read again after the commit that wrote it. Owns the comparison: the same values, or a later version
//! under a MAC of its own.

use std::marker::PhantomData;

use futures_util::future::BoxFuture;
use rap_authority::{Columns, RowKeys};
use sqlx::PgConnection;
use sqlx::postgres::PgArguments;

use crate::authentic::{Authentic, Stored};
use crate::row_name::RowName;
use crate::statement::Kind;
use crate::trace::Trace;
use crate::transaction::ReadBack;
use crate::{Result, StoreError};

/// A row as it was written, to be found so after the commit.
pub(crate) struct Written<R> {
    key: PgArguments,
    name: RowName,
    row_version: u64,
    columns: Columns,
    keys: RowKeys,
    of: PhantomData<fn() -> R>,
}

impl<R: Authentic> Written<R> {
    pub(crate) fn of(row: &R, row_version: u64, keys: &RowKeys) -> Result<Self> {
        let mut key = PgArguments::default();
        row.bind(Kind::is_key, &mut key)?;
        let (name, columns) = (RowName { table: R::TABLE, key: row.key() }, row.columns());
        Ok(Self { key, name, row_version, columns, keys: keys.clone(), of: PhantomData })
    }
}

impl<R: Authentic> ReadBack for Written<R> {
    fn trace(&self) -> Option<Trace> {
        let RowName { table, key } = self.name.clone();
        let (cluster, version) = (self.keys.cluster(), self.row_version);
        Some(Trace { table: table.to_owned(), key, cluster, version, digest: self.columns.digest() })
    }

    fn read_back(self: Box<Self>, connection: &mut PgConnection) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let query = sqlx::query_as_with(R::ONE, self.key);
            let stored: Option<Stored<R>> = query.fetch_optional(&mut *connection).await?;
            let Some(stored) = stored else { return Err(StoreError::tampered(self.name)) };
            let (row, row_version) = stored.opened_or_learned(connection, &self.keys).await?;
            // Somebody may have changed it since: then it is of a later version, under its own MAC.
            if row_version > self.row_version
                || (row_version == self.row_version && row.columns() == self.columns)
            {
                return Ok(());
            }
            Err(StoreError::tampered(self.name))
        })
    }
}
