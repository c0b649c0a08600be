//! The name of a row, for refusals and lists. Owns no value of a row.

/// A row, by table and primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct RowName {
    /// Table.
    pub table: &'static str,
    /// Primary key.
    pub key: String,
}
