//! Between the product's types and what PostgreSQL stores: UUIDs, signed integers, timestamps.
//!
//! Owns, for every type that is kept in a column, how it is read, how it is written and how a row's MAC
//! covers it. Refuses to own which columns a table has.

use rap_authority::Columns;
use rap_contract::KeyState;
use rap_types::{
    ApprovalMode, ClusterId, Digest, IdentityStatus, Incarnation, InstallationId, JoinRequestId, JoinState,
    NodeId, OperatorId, OrganizationId, PlatformRole, Refresh, RequestId, Role, TokenId, Version, Wall,
};
use sqlx::encode::IsNull;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo, PgValueRef};
use sqlx::types::ipnet::{IpNet, Ipv4Net};
use sqlx::{Arguments as _, Decode, Encode, Postgres, Row, Type, error::BoxDynError};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Result, StoreError};

/// A type that is kept in a column.
pub(crate) trait Column: Sized {
    /// What the database sends and takes.
    type Sql: for<'q> Encode<'q, Postgres> + for<'r> Decode<'r, Postgres> + Type<Postgres>;

    /// From what the database sent.
    fn of_sql(sql: Self::Sql) -> Result<Self, BoxDynError>;
    /// For the database; [`StoreError::Range`] if it cannot carry it.
    fn to_sql(&self, column: &'static str) -> Result<Self::Sql>;
    /// Adds the value to what a MAC covers.
    fn cover(&self, columns: Columns) -> Columns;
}

/// Parameters of a statement, one after another.
macro_rules! bound {
    ($($value:expr),+ $(,)?) => {{
        let mut arguments = sqlx::postgres::PgArguments::default();
        $(sqlx::Arguments::add(&mut arguments, $value).map_err(sqlx::Error::Encode)?;)+
        arguments
    }};
}
pub(crate) use bound;

/// A type of which a column may be null: its bytes under a MAC.
pub(crate) trait Nullable: Column {
    fn bytes(&self) -> impl AsRef<[u8]>;
}

/// The value of a column.
pub(crate) fn read<T: Column>(row: &PgRow, column: &str) -> sqlx::Result<T> {
    let sql = row.try_get(column)?;
    let malformed = |source| sqlx::Error::ColumnDecode { index: column.to_owned(), source };
    T::of_sql(sql).map_err(malformed)
}

/// Binds the value of a column.
pub(crate) fn bind<T: Column>(value: &T, column: &'static str, to: &mut PgArguments) -> Result<()> {
    to.add(value.to_sql(column)?).map_err(|error| sqlx::Error::Encode(error).into())
}

impl<T: Nullable> Column for Option<T>
where
    Option<T::Sql>: for<'q> Encode<'q, Postgres> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    type Sql = Option<T::Sql>;

    fn of_sql(sql: Self::Sql) -> Result<Self, BoxDynError> {
        sql.map(T::of_sql).transpose()
    }

    fn to_sql(&self, column: &'static str) -> Result<Self::Sql> {
        self.as_ref().map(|value| value.to_sql(column)).transpose()
    }

    fn cover(&self, columns: Columns) -> Columns {
        columns.option(self.as_ref().map(Nullable::bytes).as_ref().map(AsRef::as_ref))
    }
}

/// `type, what the database has, from it, to it`; then how a MAC covers the value: its `bytes`, in which case
/// the column may be null, or a method of [`Columns`].
macro_rules! column {
    ($type:ty, $sql:ty, $of:expr, |$value:ident, $column:ident| $to:expr, bytes $bytes:expr) => {
        column!($type, $sql, $of, |$value, $column| $to, |columns| columns.bytes(($bytes).as_ref()));
        impl Nullable for $type {
            fn bytes(&self) -> impl AsRef<[u8]> {
                let $value = self;
                $bytes
            }
        }
    };
    ($type:ty, $sql:ty, $of:expr, |$value:ident, $column:ident| $to:expr, |$columns:ident| $cover:expr) => {
        impl Column for $type {
            type Sql = $sql;

            fn of_sql(sql: $sql) -> Result<Self, BoxDynError> {
                let of: fn($sql) -> Result<Self, BoxDynError> = $of;
                of(sql)
            }

            fn to_sql(&self, $column: &'static str) -> Result<$sql> {
                let $value = self;
                $to
            }

            fn cover(&self, $columns: Columns) -> Columns {
                let $value = self;
                $cover
            }
        }
    };
}

macro_rules! ids {
    ($($id:ty),+) => {
        $(column!($id, Uuid, |uuid| Ok(uuid.into()), |id, _column| Ok(id.uuid()), bytes id.as_bytes());)+
    };
}
ids!(ClusterId, InstallationId, JoinRequestId, NodeId, OperatorId, OrganizationId, RequestId, TokenId);

macro_rules! vocabulary {
    ($($word:ty),+) => {$(
        column!($word, String, |text| Ok(text.parse()?), |word, _column| Ok(word.as_str().to_owned()),
            |columns| columns.text(word.as_str()));
    )+};
}
vocabulary!(ApprovalMode, IdentityStatus, JoinState, KeyState, PlatformRole);

macro_rules! numbers {
    ($($number:ty),+) => {$(
        column!($number, i64, |number| Ok(Self(number.try_into()?)), |number, column| counter(column, number.0),
            bytes number.0.to_be_bytes());
    )+};
}
numbers!(Incarnation, Refresh, Version);

column!(Uuid, Uuid, Ok, |uuid, _column| Ok(*uuid), bytes uuid.as_bytes());
column!(String, String, Ok, |text, _column| Ok(text.clone()), bytes text.as_bytes());
column!(Vec<u8>, Vec<u8>, Ok, |bytes, _column| Ok(bytes.clone()), bytes bytes.as_slice());
column!([u8; 32], Vec<u8>, bytes32, |bytes, _column| Ok(bytes.to_vec()), bytes bytes.as_slice());
column!(Digest, Vec<u8>, |bytes| bytes32(bytes).map(Self::from_bytes), |digest, _column| Ok(digest.to_vec()),
    bytes digest.as_bytes());
column!(bool, bool, Ok, |flag, _column| Ok(*flag), bytes[u8::from(*flag)]);
column!(u64, i64, |number| Ok(number.try_into()?), |number, column| counter(column, *number),
    bytes number.to_be_bytes());
column!(u32, i64, |number| Ok(number.try_into()?), |number, _column| Ok((*number).into()),
    bytes u64::from(*number).to_be_bytes());
column!(Wall, Instant, |at| Ok(at.wall()), |at, column| timestamp(column, *at), |columns| columns
    .instant(Some(*at)));
column!(Vec<String>, Vec<String>, Ok, |texts, _column| Ok(texts.clone()), |columns| columns.words(texts));
column!(Vec<Role>, Vec<String>, roles, |roles, _column| Ok(texts(roles)), |columns| columns
    .words(texts(roles)));
column!(serde_json::Value, serde_json::Value, Ok, |json, _column| Ok(json.clone()), |columns| columns
    .bytes(&canonical_json(json)));
column!(Ipv4Net, IpNet, ipv4_net, |network, _column| Ok(IpNet::V4(*network)), |columns| columns
    .text(&network.to_string()));

impl Nullable for Wall {
    fn bytes(&self) -> impl AsRef<[u8]> {
        self.0.to_be_bytes()
    }
}

fn bytes32(bytes: Vec<u8>) -> Result<[u8; 32], BoxDynError> {
    bytes.try_into().map_err(|_| "not 32 bytes".into())
}

fn roles(words: Vec<String>) -> Result<Vec<Role>, BoxDynError> {
    words.iter().map(|word| Ok(word.parse()?)).collect()
}

fn ipv4_net(network: IpNet) -> Result<Ipv4Net, BoxDynError> {
    match network {
        IpNet::V4(network) => Ok(network),
        IpNet::V6(_) => Err("not an IPv4 network".into()),
    }
}

/// A counter for a `bigint` column.
pub(crate) fn counter(column: &'static str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| StoreError::Range(column))
}

/// Unix milliseconds as a timestamp, within the years -9999 to 9999.
pub(crate) fn timestamp(column: &'static str, wall: Wall) -> Result<Instant> {
    match OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall.0) * 1_000_000) {
        Ok(_) => Ok(Instant(wall.0 * 1_000)),
        Err(_) => Err(StoreError::Range(column)),
    }
}

/// Words for a `text[]` parameter.
pub(crate) fn texts<T: ToString>(words: &[T]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// A `timestamptz` as Unix microseconds. sqlx's own types panic at one that is infinite or beyond their
/// calendar, and whoever writes the database may write such.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instant(i64);

impl Instant {
    /// Cut to milliseconds.
    fn wall(self) -> Wall {
        Wall(self.0.div_euclid(1_000))
    }

    /// All that the database keeps.
    pub(crate) fn micros(self) -> i64 {
        self.0
    }
}

impl Type<Postgres> for Instant {
    fn type_info() -> PgTypeInfo {
        <OffsetDateTime as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for Instant {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 8] = value.as_bytes()?.try_into()?;
        let since_2000 = i64::from_be_bytes(bytes);
        let infinite = since_2000 == i64::MAX || since_2000 == i64::MIN;
        let micros = since_2000.checked_add(EPOCH_MICROS).filter(|_| !infinite);
        micros.map(Self).ok_or_else(|| "an infinite time".into())
    }
}

impl Encode<'_, Postgres> for Instant {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0 - EPOCH_MICROS, buffer)
    }
}

/// From 1970 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// JSON in one form: keys sorted, no blanks.
fn canonical_json(value: &serde_json::Value) -> Vec<u8> {
    let mut text = Vec::new();
    write_json(&mut text, value);
    text
}

fn write_json(to: &mut Vec<u8>, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            to.push(b'{');
            for (key, member) in sorted {
                write_json(to, &serde_json::Value::String(key.clone()));
                to.push(b':');
                write_json(to, member);
                to.push(b',');
            }
            to.push(b'}');
        }
        serde_json::Value::Array(items) => {
            to.push(b'[');
            for item in items {
                write_json(to, item);
                to.push(b',');
            }
            to.push(b']');
        }
        scalar => to.extend_from_slice(scalar.to_string().as_bytes()),
    }
}
