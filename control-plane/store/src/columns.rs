//! Between the product's types and what PostgreSQL stores: UUIDs, signed integers, timestamps.

use rap_types::{Digest, Wall};
use sqlx::postgres::{PgRow, PgTypeInfo, PgValueRef};
use sqlx::{PgConnection, Postgres, Row, error::BoxDynError};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;

/// Declares the statements of one file and lists them, so that one test can prepare them all.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)+) => {
        $($(#[$doc])* pub(super) const $name: &str = $text;)+
        /// Every statement of this file, with its name.
        #[cfg(test)]
        pub(crate) const STATEMENTS: &[(&str, &str)] = &[$((stringify!($name), $text)),+];
    };
}
pub(crate) use statements;

statements! {
    DATABASE_NOW = "SELECT clock_timestamp()";
}

/// The database's clock, in whole milliseconds: for instants that a MAC covers.
pub(crate) async fn database_now(connection: &mut PgConnection) -> Result<Wall, StoreError> {
    let now: Instant = sqlx::query_scalar(DATABASE_NOW).fetch_one(connection).await?;
    Ok(now.wall())
}

/// A counter for a `bigint` column.
pub(crate) fn counter(column: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Range(column))
}

/// Unix milliseconds as a timestamp.
pub(crate) fn timestamp(column: &'static str, wall: Wall) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall.0) * 1_000_000)
        .map_err(|_| StoreError::Range(column))
}

/// A fresh UUIDv7-typed value of a column.
pub(crate) fn id<T: From<Uuid>>(row: &PgRow, column: &str) -> sqlx::Result<T> {
    row.try_get::<Uuid, _>(column).map(T::from)
}

/// A nullable id.
pub(crate) fn id_option<T: From<Uuid>>(row: &PgRow, column: &str) -> sqlx::Result<Option<T>> {
    Ok(row.try_get::<Option<Uuid>, _>(column)?.map(T::from))
}

/// A non-negative `bigint`, in whatever unsigned type the caller wants.
pub(crate) fn unsigned<T: TryFrom<i64>>(row: &PgRow, column: &str) -> sqlx::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let value = row.try_get::<i64, _>(column)?;
    T::try_from(value).map_err(|error| malformed(column, error.into()))
}

/// A nullable, non-negative `bigint`.
pub(crate) fn unsigned_option(row: &PgRow, column: &str) -> sqlx::Result<Option<u64>> {
    let value = row.try_get::<Option<i64>, _>(column)?;
    value.map(u64::try_from).transpose().map_err(|error| malformed(column, error.into()))
}

/// A timestamp, cut to milliseconds.
pub(crate) fn wall(row: &PgRow, column: &str) -> sqlx::Result<Wall> {
    row.try_get(column).map(|at: Instant| at.wall())
}

/// A timestamp as Unix microseconds, which is all that the database keeps of it.
pub(crate) fn micros(row: &PgRow, column: &str) -> sqlx::Result<i64> {
    row.try_get(column).map(|at: Instant| at.0)
}

/// A nullable timestamp.
pub(crate) fn wall_option(row: &PgRow, column: &str) -> sqlx::Result<Option<Wall>> {
    Ok(row.try_get::<Option<Instant>, _>(column)?.map(Instant::wall))
}

/// Exactly 32 bytes.
pub(crate) fn bytes32(row: &PgRow, column: &str) -> sqlx::Result<[u8; 32]> {
    let bytes: Vec<u8> = row.try_get(column)?;
    bytes.try_into().map_err(|_| malformed(column, "not 32 bytes".into()))
}

/// A SHA-256 value.
pub(crate) fn digest(row: &PgRow, column: &str) -> sqlx::Result<Digest> {
    bytes32(row, column).map(Digest::from_bytes)
}

/// A word of the vocabulary.
pub(crate) fn word<T: std::str::FromStr>(row: &PgRow, column: &str) -> sqlx::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.try_get(column)?;
    text.parse().map_err(|error: T::Err| malformed(column, error.into()))
}

/// An array of words.
pub(crate) fn words<T: std::str::FromStr>(row: &PgRow, column: &str) -> sqlx::Result<Vec<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let texts: Vec<String> = row.try_get(column)?;
    texts
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, T::Err>>()
        .map_err(|e| malformed(column, e.into()))
}

/// Words for a `text[]` parameter.
pub(crate) fn texts<T: ToString>(words: &[T]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// A `timestamptz` as Unix microseconds. sqlx's own types panic at one that is infinite or beyond their
/// calendar, and whoever writes the database may write such.
#[derive(Debug, Clone, Copy)]
struct Instant(i64);

impl Instant {
    fn wall(self) -> Wall {
        Wall(self.0.div_euclid(1_000))
    }
}

impl sqlx::Type<Postgres> for Instant {
    fn type_info() -> PgTypeInfo {
        <OffsetDateTime as sqlx::Type<Postgres>>::type_info()
    }
}

impl<'r> sqlx::Decode<'r, Postgres> for Instant {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 8] = value.as_bytes()?.try_into()?;
        let since_2000 = i64::from_be_bytes(bytes);
        let infinite = since_2000 == i64::MAX || since_2000 == i64::MIN;
        let micros = since_2000.checked_add(EPOCH_MICROS).filter(|_| !infinite);
        micros.map(Self).ok_or_else(|| "an infinite time".into())
    }
}

/// From 1970 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

fn malformed(column: &str, source: BoxDynError) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source }
}
