//! Statements as functions: a statement, its parameters and its answer are declared in one place.
//!
//! Owns how parameters are bound and how rows without a MAC are read. Refuses to own rows with a MAC
//! ([`crate::authentic`]) and how many rows a statement must change ([`crate::counted`]).

use std::ops::Range;
use std::time::Duration;

use rap_authority::RowKeys;
use rap_types::{ClusterId, Wall};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Arguments as _, Column as _, Encode, PgConnection, Postgres, Row as _, Type};
use uuid::Uuid;

use crate::Result;
use crate::columns::{Column, bind, read};

/// Declares the statements of one file, and lists them, so that one test can prepare them all:
///
/// ```text
/// statements! {
///     /// A constant, for a function that is written out.
///     TOKEN_REQUESTS = "SELECT count(*) FROM join_requests WHERE token_id = $1";
///     /// A function. It takes a connection first, then these parameters, which are `$1`, `$2`, ...
///     pub async fn leaves_list(cluster: ClusterId) -> Vec<LeafRow> = all "SELECT ... WHERE cluster_id = $1";
///     /// A function that takes a connection and the keys of the rows; the cluster of the keys is `$1`.
///     pub async fn token_read(keys, token: TokenId) -> Option<TokenRow> = verified select!(TokenRow, "...");
///     /// A function that takes a transaction, the keys of the rows and a row that it writes.
///     pub async fn authority_insert(keys, new: &AuthorityRow) = insert;
///     /// A function that takes a connection and parameters that are bound already.
///     async fn entry_insert(arguments) -> () = one_row "INSERT ...";
/// }
/// ```
///
/// The word before the text names the function that runs the statement: one of this file, or one of
/// [`crate::authentic`]. What it gives is the type after the arrow, in a `Result`. A statement that changes rows is run
/// by one of [`crate::counted`] (`one_row`, `one_row_returned`, `exactly(NUMBER)`, `may_conflict`, `may_conflict_returned`), and by nothing
/// else.
macro_rules! statements {
    (@list [$($listed:tt)*]) => {
        /// Every statement of this file: its name, its text, and what runs it.
        #[cfg(test)]
        pub(crate) const STATEMENTS: &[(&str, &str, &str)] = &[$($listed)*];
    };
    (@list [$($listed:tt)*] $(#[$doc:meta])* $name:ident = $text:expr; $($rest:tt)*) => {
        $(#[$doc])*
        pub(super) const $name: &str = $text;
        $crate::query::statements! { @list [$($listed)* (stringify!($name), $text, ""),] $($rest)* }
    };
    (
        @list [$($listed:tt)*]
        $(#[$doc:meta])*
        $visible:vis async fn $name:ident(arguments) -> $answer:ty = $run:ident $text:expr;
        $($rest:tt)*
    ) => {
        $(#[$doc])*
        $visible async fn $name(
            connection: &mut sqlx::PgConnection,
            arguments: sqlx::postgres::PgArguments,
        ) -> $crate::Result<$answer> {
            $run($crate::query::Bound::of($text, arguments), connection).await
        }
        $crate::query::statements! { @list [$($listed)* (stringify!($name), $text, stringify!($run)),] $($rest)* }
    };
    (
        @list [$($listed:tt)*]
        $(#[$doc:meta])*
        $visible:vis async fn $name:ident($($parameter:ident: $type:ty),*) -> () = exactly($rows:expr) $text:expr;
        $($rest:tt)*
    ) => {
        $(#[$doc])*
        $visible async fn $name(connection: &mut sqlx::PgConnection, $($parameter: $type),*) -> $crate::Result<()> {
            use $crate::query::Parameter as _;
            let rows = $rows;
            let mut arguments = sqlx::postgres::PgArguments::default();
            $($parameter.bind_to(stringify!($parameter), &mut arguments)?;)*
            $crate::counted::exactly($crate::query::Bound::of($text, arguments), rows, connection).await
        }
        $crate::query::statements! { @list [$($listed)* (stringify!($name), $text, "exactly"),] $($rest)* }
    };
    (
        @list [$($listed:tt)*]
        $(#[$doc:meta])*
        $visible:vis async fn $name:ident(keys $(, $parameter:ident: $type:ty)*) -> $answer:ty = $run:ident $text:expr;
        $($rest:tt)*
    ) => {
        $(#[$doc])*
        $visible async fn $name(
            connection: &mut sqlx::PgConnection,
            keys: &rap_authority::RowKeys,
            $($parameter: $type),*
        ) -> $crate::Result<$answer> {
            #[allow(unused_imports, reason = "not every statement has further parameters")]
            use $crate::query::Parameter as _;
            #[allow(unused_mut, reason = "not every statement has further parameters")]
            let mut arguments = $crate::query::scope(keys)?;
            $($parameter.bind_to(stringify!($parameter), &mut arguments)?;)*
            $run(sqlx::query_as_with($text, arguments), connection, keys).await
        }
        $crate::query::statements! { @list [$($listed)* (stringify!($name), $text, stringify!($run)),] $($rest)* }
    };
    (
        @list [$($listed:tt)*]
        $(#[$doc:meta])*
        $visible:vis async fn $name:ident(keys, $row:ident: $type:ty) = $run:ident;
        $($rest:tt)*
    ) => {
        $(#[$doc])*
        $visible async fn $name(
            transaction: &mut $crate::SystemTransaction,
            keys: &rap_authority::RowKeys,
            $row: $type,
        ) -> $crate::Result<()> {
            $run(transaction, keys, $row).await.map(drop)
        }
        $crate::query::statements! { @list [$($listed)*] $($rest)* }
    };
    (
        @list [$($listed:tt)*]
        $(#[$doc:meta])*
        $visible:vis async fn $name:ident($($parameter:ident: $type:ty),*) -> $answer:ty = $run:ident $text:expr;
        $($rest:tt)*
    ) => {
        $(#[$doc])*
        $visible async fn $name(
            connection: &mut sqlx::PgConnection,
            $($parameter: $type),*
        ) -> $crate::Result<$answer> {
            #[allow(unused_imports, reason = "not every statement has parameters")]
            use $crate::query::Parameter as _;
            #[allow(unused_mut, reason = "not every statement has parameters")]
            let mut arguments = sqlx::postgres::PgArguments::default();
            $($parameter.bind_to(stringify!($parameter), &mut arguments)?;)*
            $run($crate::query::Bound::of($text, arguments), connection).await
        }
        $crate::query::statements! { @list [$($listed)* (stringify!($name), $text, stringify!($run)),] $($rest)* }
    };
    ($($statement:tt)+) => {
        $crate::query::statements! { @list [] $($statement)+ }
    };
}
pub(crate) use statements;

statements! {
    /// The database's clock, in whole milliseconds: for instants that a MAC covers.
    pub(crate) async fn database_now() -> Wall = one "SELECT clock_timestamp()";
}

/// A statement with its parameters.
pub(crate) struct Bound {
    pub(crate) text: &'static str,
    arguments: PgArguments,
}

impl Bound {
    pub(crate) fn of(text: &'static str, arguments: PgArguments) -> Self {
        Self { text, arguments }
    }

    pub(crate) fn query(self) -> Query<'static, Postgres, PgArguments> {
        sqlx::query_with(self.text, self.arguments)
    }
}

/// Runs a statement that changes nothing.
pub(crate) async fn done(statement: Bound, connection: &mut PgConnection) -> Result<()> {
    statement.query().execute(connection).await?;
    Ok(())
}

/// Runs the statement; true if its answer has a row.
pub(crate) async fn found(statement: Bound, connection: &mut PgConnection) -> Result<bool> {
    Ok(statement.query().fetch_optional(connection).await?.is_some())
}

/// The only row of the answer.
pub(crate) async fn one<R: Readable>(statement: Bound, connection: &mut PgConnection) -> Result<R> {
    Ok(R::of_row(&statement.query().fetch_one(connection).await?)?)
}

/// The first row of the answer, if it has one.
pub(crate) async fn optional<R: Readable>(
    statement: Bound,
    connection: &mut PgConnection,
) -> Result<Option<R>> {
    Ok(statement.query().fetch_optional(connection).await?.as_ref().map(R::of_row).transpose()?)
}

/// Every row of the answer.
pub(crate) async fn all<R: Readable>(statement: Bound, connection: &mut PgConnection) -> Result<Vec<R>> {
    let rows = statement.query().fetch_all(connection).await?;
    Ok(rows.iter().map(R::of_row).collect::<sqlx::Result<_>>()?)
}

/// A row without a MAC, or a part of one.
pub(crate) trait Readable: Sized {
    /// Reads it from a row of an answer.
    fn of_row(row: &PgRow) -> sqlx::Result<Self>;
}

/// Nothing of it.
impl Readable for () {
    fn of_row(_row: &PgRow) -> sqlx::Result<Self> {
        Ok(())
    }
}

/// The first column.
impl<T: Column> Readable for T {
    fn of_row(row: &PgRow) -> sqlx::Result<Self> {
        read(row, row.try_column(0)?.name())
    }
}

/// The first two columns.
impl<T: Column, U: Column> Readable for (T, U) {
    fn of_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok((read(row, row.try_column(0)?.name())?, read(row, row.try_column(1)?.name())?))
    }
}

/// What a statement takes: one parameter, or several of a row.
pub(crate) trait Parameter {
    /// Adds it; `name` is that of the column, for a number out of its range.
    fn bind_to(&self, name: &'static str, to: &mut PgArguments) -> Result<()>;
}

impl<T: Column> Parameter for T {
    fn bind_to(&self, name: &'static str, to: &mut PgArguments) -> Result<()> {
        bind(self, name, to)
    }
}

impl Parameter for str {
    fn bind_to(&self, _name: &'static str, to: &mut PgArguments) -> Result<()> {
        add(self, to)
    }
}

impl Parameter for [u8] {
    fn bind_to(&self, _name: &'static str, to: &mut PgArguments) -> Result<()> {
        add(self, to)
    }
}

/// An array.
impl<T: Column> Parameter for [T]
where
    Vec<T::Sql>: for<'q> Encode<'q, Postgres> + Type<Postgres>,
{
    fn bind_to(&self, name: &'static str, to: &mut PgArguments) -> Result<()> {
        add(self.iter().map(|one| one.to_sql(name)).collect::<Result<Vec<_>>>()?, to)
    }
}

/// A UUID that names nothing of the product.
impl Parameter for [u8; 16] {
    fn bind_to(&self, _name: &'static str, to: &mut PgArguments) -> Result<()> {
        add(Uuid::from_bytes(*self), to)
    }
}

/// Its first number, and the one after its last.
impl Parameter for Range<u64> {
    fn bind_to(&self, name: &'static str, to: &mut PgArguments) -> Result<()> {
        self.start.bind_to(name, to)?;
        self.end.bind_to(name, to)
    }
}

/// Milliseconds, with a fraction.
impl Parameter for Duration {
    fn bind_to(&self, _name: &'static str, to: &mut PgArguments) -> Result<()> {
        add(self.as_secs_f64() * 1000.0, to)
    }
}

/// The first parameter of a statement that reads rows with a MAC: the cluster of the keys. The rows of the installation
/// have none.
pub(crate) fn scope(keys: &RowKeys) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    if keys.cluster() != ClusterId::ZERO {
        keys.cluster().bind_to("cluster_id", &mut arguments)?;
    }
    Ok(arguments)
}

fn add<'q>(value: impl Encode<'q, Postgres> + Type<Postgres>, to: &mut PgArguments) -> Result<()> {
    to.add(value).map_err(|error| sqlx::Error::Encode(error).into())
}

/// Implements [`Readable`] and [`Parameter`] for a row type without a MAC: `HeadRow { head: _, created_at: at }`, each
/// field with its column if that has another name, and with `_` if it is such a row itself. As a parameter it binds
/// the fields in this order.
macro_rules! plain_row {
    ($row:ident { $($field:ident $(: $column:tt)?),+ $(,)? }) => {
        impl $crate::query::Readable for $row {
            fn of_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                Ok(Self { $($field: $crate::query::field!(of row, $field $($column)?)?),+ })
            }
        }

        impl $crate::query::Parameter for $row {
            fn bind_to(&self, _name: &'static str, to: &mut sqlx::postgres::PgArguments) -> $crate::Result<()> {
                $($crate::query::field!(self to, $field $($column)?)?;)+
                Ok(())
            }
        }
    };
}
pub(crate) use plain_row;

/// Reads a field of a row, or binds it.
macro_rules! field {
    (of $row:ident, $field:ident _) => {
        $crate::query::Readable::of_row($row)
    };
    (of $row:ident, $field:ident $($column:ident)?) => {
        $crate::columns::read($row, $crate::query::name!($field $($column)?))
    };
    ($this:ident $to:ident, $field:ident _) => {
        $crate::query::Parameter::bind_to(&$this.$field, stringify!($field), $to)
    };
    ($this:ident $to:ident, $field:ident $($column:ident)?) => {
        $crate::columns::bind(&$this.$field, $crate::query::name!($field $($column)?), $to)
    };
}
pub(crate) use field;

/// The name of a column: the last word.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $column:ident) => {
        stringify!($column)
    };
}
pub(crate) use name;
