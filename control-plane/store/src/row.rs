//! Row types from one list of their columns.
//!
//! Owns the columns that are read, inserted, updated and covered by a MAC, in one order. Refuses to own conditions: a
//! statement's `WHERE` is in the file of its table.

use rap_authority::Columns;
use sqlx::postgres::PgRow;

/// A value that the statement takes from another table than the row's own.
pub(crate) trait Joined: Sized {
    /// Reads the value.
    fn read(row: &PgRow) -> sqlx::Result<Self>;
    /// Adds it to what the row's MAC covers, after the row's own columns.
    fn cover(&self, columns: Columns) -> Columns;
}

/// Implements [`crate::authentic::Authentic`]:
///
/// ```text
/// authentic_row! {
///     PolicyRow { cluster: cluster_id, kind, body } in "cluster_policies";   type, its fields as columns, table
///     key cluster_id, kind;
///     body: Changes;                                                         the other columns, each with its kind
///     sets "updated_at = clock_timestamp()";                                 what else an update sets
///     joins "LEFT JOIN ...": roles = "ARRAY(...) AS roles";                  what comes from other tables
/// }
/// ```
///
/// The fields are written as the type is: once as an expression and once as a pattern, so that a column that
/// is missing in one of the two lists does not compile.
macro_rules! authentic_row {
    (
        $row:ident { $($shape:tt)* } in $table:literal;
        key $($key:ident),+;
        $($column:ident: $kind:ident),+;
        $(sets $sets:literal;)?
        $(joins $join:literal: $($joined:ident = $from:literal),+;)?
    ) => {
        impl $crate::authentic::Authentic for $row {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static $crate::statement::ColumnList = &[
                $((stringify!($key), $crate::statement::Kind::Key),)+
                $((stringify!($column), $crate::statement::Kind::$kind)),+
            ];
            const NAMES: &'static str = $crate::statement::static_text!($crate::statement::names_text(
                <$row as $crate::authentic::Authentic>::COLUMNS,
                &[$($($from),+)?],
            ));
            const SELECT: &'static str = $crate::statement::joined!(
                "SELECT ", <$row as $crate::authentic::Authentic>::NAMES, " FROM ", $table, $(" ", $join)?
            );
            const INSERT: &'static str = $crate::statement::static_text!($crate::statement::insert_text(
                $table,
                <$row as $crate::authentic::Authentic>::COLUMNS,
            ));
            const UPDATE: &'static str = $crate::statement::static_text!($crate::statement::update_text(
                $table,
                <$row as $crate::authentic::Authentic>::COLUMNS,
                concat!($($sets, ", ")?),
            ));
            const ONE: &'static str = $crate::statement::static_text!($crate::statement::one_text(
                <$row as $crate::authentic::Authentic>::SELECT,
                <$row as $crate::authentic::Authentic>::COLUMNS,
            ));
            const BY_TEXT: &'static str = $crate::statement::static_text!($crate::statement::by_text_text(
                <$row as $crate::authentic::Authentic>::SELECT,
                <$row as $crate::authentic::Authentic>::COLUMNS,
            ));
            const ALL: &'static str = $crate::statement::static_text!($crate::statement::all_text(
                <$row as $crate::authentic::Authentic>::SELECT,
                <$row as $crate::authentic::Authentic>::COLUMNS,
            ));
            const AFTER: &'static str = $crate::statement::static_text!($crate::statement::after_text(
                <$row as $crate::authentic::Authentic>::SELECT,
                <$row as $crate::authentic::Authentic>::COLUMNS,
            ));
            const RESEAL: &'static str = $crate::statement::static_text!($crate::statement::reseal_text(
                $table,
                <$row as $crate::authentic::Authentic>::COLUMNS,
            ));

            fn decode(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                $(let $key = $crate::columns::read(row, stringify!($key))?;)+
                $(let $column = $crate::columns::read(row, stringify!($column))?;)+
                $($(let $joined = $crate::row::Joined::read(row)?;)+)?
                Ok(Self { $($shape)* })
            }

            #[allow(unused_variables, reason = "the pattern names every column")]
            fn key(&self) -> String {
                let Self { $($shape)* } = self;
                [$($key.to_string()),+].join("/")
            }

            #[allow(unused_variables, reason = "the pattern names every column")]
            fn columns(&self) -> rap_authority::Columns {
                let Self { $($shape)* } = self;
                let columns = rap_authority::Columns::new();
                $(
                    let columns = match $crate::statement::Kind::$kind.is_covered() {
                        true => $crate::columns::Column::cover($column, columns),
                        false => columns,
                    };
                )+
                $($(let columns = $crate::row::Joined::cover($joined, columns);)+)?
                columns
            }

            #[allow(unused_variables, reason = "the pattern names every column")]
            fn bind(
                &self,
                wanted: fn($crate::statement::Kind) -> bool,
                to: &mut sqlx::postgres::PgArguments,
            ) -> Result<(), $crate::StoreError> {
                let Self { $($shape)* } = self;
                $(
                    if wanted($crate::statement::Kind::Key) {
                        $crate::columns::bind($key, stringify!($key), to)?;
                    }
                )+
                $(
                    if wanted($crate::statement::Kind::$kind) {
                        $crate::columns::bind($column, stringify!($column), to)?;
                    }
                )+
                Ok(())
            }
        }
    };
}
pub(crate) use authentic_row;

/// `SELECT every column FROM table rest`, for a row type with a MAC.
macro_rules! select {
    ($row:ty, $rest:expr) => {
        $crate::statement::joined!(<$row as $crate::authentic::Authentic>::SELECT, " ", $rest)
    };
}
pub(crate) use select;
