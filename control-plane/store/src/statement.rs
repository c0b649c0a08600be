//! Text of statements, put together by the compiler from the list of a table's columns.
//!
//! Owns the wording and the numbering of parameters, so that a column is named once. Refuses to own
//! execution: [`crate::authentic`] binds what these texts number, in the same order.

/// What a column of an authenticated row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Part of the primary key. The MAC covers the key as a whole.
    Key,
    /// Set by the insert, covered by the MAC.
    Fixed,
    /// Set by the insert and by later writes, covered by the MAC.
    Changes,
    /// As [`Kind::Changes`], but encrypted for its row: its own tag authenticates it, not the MAC.
    Encrypted,
    /// Set by the database, shown, never decided on, not covered.
    Shown,
}

impl Kind {
    pub(crate) const fn is_inserted(self) -> bool {
        !matches!(self, Self::Shown)
    }

    pub(crate) const fn is_updated(self) -> bool {
        matches!(self, Self::Changes | Self::Encrypted)
    }

    pub(crate) const fn is_covered(self) -> bool {
        matches!(self, Self::Fixed | Self::Changes)
    }

    pub(crate) const fn is_key(self) -> bool {
        matches!(self, Self::Key)
    }
}

/// Name and kind of every column, the primary key first.
pub type ColumnList = [(&'static str, Kind)];

/// A text under construction. One that is too long does not compile.
pub(crate) struct Text {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl Text {
    const CAPACITY: usize = 4096;

    pub(crate) const fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], length: 0 }
    }

    pub(crate) const fn with(mut self, text: &str) -> Self {
        let mut at = 0;
        while at < text.len() {
            self.bytes[self.length] = text.as_bytes()[at];
            self.length += 1;
            at += 1;
        }
        self
    }

    const fn with_digit(mut self, digit: usize) -> Self {
        self.bytes[self.length] = b'0' + digit as u8;
        self.length += 1;
        self
    }

    /// `$number`, below 100.
    const fn with_parameter(self, number: usize) -> Self {
        let text = self.with("$");
        let text = if number < 10 { text } else { text.with_digit(number / 10) };
        text.with_digit(number % 10)
    }

    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// The bytes without the unused capacity; `LENGTH` is [`Self::length`].
    pub(crate) const fn exact<const LENGTH: usize>(&self) -> [u8; LENGTH] {
        let mut exact = [0; LENGTH];
        let mut at = 0;
        while at < LENGTH {
            exact[at] = self.bytes[at];
            at += 1;
        }
        exact
    }
}

/// A [`Text`] as a `&'static str`.
macro_rules! static_text {
    ($text:expr) => {{
        const TEXT: $crate::statement::Text = $text;
        const BYTES: [u8; TEXT.length()] = TEXT.exact();
        match std::str::from_utf8(&BYTES) {
            Ok(text) => text,
            Err(_) => panic!("made of whole texts"),
        }
    }};
}
pub(crate) use static_text;

/// Texts and constants one after another.
macro_rules! joined {
    ($($part:expr),+ $(,)?) => {
        $crate::statement::static_text!($crate::statement::Text::new()$(.with($part))+)
    };
}
pub(crate) use joined;

/// `SELECT every column FROM table rest`, for a row type with a MAC.
macro_rules! select {
    ($row:ty, $rest:expr) => {
        $crate::statement::joined!(<$row as $crate::authentic::Authentic>::SELECT, " ", $rest)
    };
}
pub(crate) use select;

/// `a, b, joined, row_version, row_mac`.
pub(crate) const fn names_text(columns: &ColumnList, joined: &[&str]) -> Text {
    let mut text = Text::new();
    let mut at = 0;
    while at < columns.len() {
        text = text.with(columns[at].0).with(", ");
        at += 1;
    }
    at = 0;
    while at < joined.len() {
        text = text.with(joined[at]).with(", ");
        at += 1;
    }
    text.with("row_version, row_mac")
}

/// `INSERT INTO table (a, b, row_mac) VALUES ($1, $2, $3)`.
pub(crate) const fn insert_text(table: &str, columns: &ColumnList) -> Text {
    let mut names = Text::new().with("INSERT INTO ").with(table).with(" (");
    let mut values = Text::new();
    let (mut at, mut number) = (0, 1);
    while at < columns.len() {
        if columns[at].1.is_inserted() {
            names = names.with(columns[at].0).with(", ");
            values = values.with_parameter(number).with(", ");
            number += 1;
        }
        at += 1;
    }
    let mut text = names.with("row_mac) VALUES (");
    at = 0;
    while at < values.length {
        text.bytes[text.length] = values.bytes[at];
        text.length += 1;
        at += 1;
    }
    text.with_parameter(number).with(")")
}

/// `UPDATE table SET sets, c = $3, row_version = row_version + 1, row_mac = $4 WHERE a = $1 AND row_version = $2`:
/// the parameters are the key, the version that is replaced, what changes, the new MAC. `sets` is empty, or sets
/// columns that are shown and ends with a comma.
pub(crate) const fn update_text(table: &str, columns: &ColumnList, sets: &str) -> Text {
    let mut condition = 1;
    let mut at = 0;
    while at < columns.len() {
        condition += columns[at].1.is_key() as usize;
        at += 1;
    }
    // `sets` comes first: where a parameter stands in an expression it is no domain's, and a column takes it.
    let mut text = Text::new().with("UPDATE ").with(table).with(" SET ").with(sets);
    let mut number = condition + 1;
    at = 0;
    while at < columns.len() {
        if columns[at].1.is_updated() {
            text = text.with(columns[at].0).with(" = ").with_parameter(number).with(", ");
            number += 1;
        }
        at += 1;
    }
    text = text.with("row_version = row_version + 1, row_mac = ").with_parameter(number);
    text = text.with(" WHERE ");
    at = 0;
    while at < columns.len() && columns[at].1.is_key() {
        text = text.with(columns[at].0).with(" = ").with_parameter(at + 1).with(" AND ");
        at += 1;
    }
    text.with("row_version = ").with_parameter(condition)
}

/// The primary key as text, its columns joined by `/`: what names a row.
const fn with_key_as_text(mut text: Text, columns: &ColumnList) -> Text {
    let mut at = 0;
    while at < columns.len() && columns[at].1.is_key() {
        text = text.with(if at == 0 { "" } else { " || '/' || " }).with(columns[at].0).with("::text");
        at += 1;
    }
    text
}

/// Every row of a scope, by key: of cluster `$1`, or of the installation.
pub(crate) const fn all_text(select: &str, columns: &ColumnList) -> Text {
    let mut text = Text::new().with(select);
    text = text.with(if in_cluster(columns) { " WHERE cluster_id = $1 ORDER BY " } else { " ORDER BY " });
    let mut at = 0;
    while at < columns.len() && columns[at].1.is_key() {
        text = text.with(if at == 0 { "" } else { ", " }).with(columns[at].0);
        at += 1;
    }
    text
}

/// Whether the rows belong to clusters, and not to the installation.
const fn in_cluster(columns: &ColumnList) -> bool {
    let mut at = 0;
    while at < columns.len() {
        if equal(columns[at].0.as_bytes(), b"cluster_id") {
            return true;
        }
        at += 1;
    }
    false
}

const fn equal(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The next rows of cluster `$1` after the key `$2`, by the key's text.
pub(crate) const fn after_text(select: &str, columns: &ColumnList) -> Text {
    let text = Text::new().with(select).with(" WHERE cluster_id = $1 AND (");
    let text = with_key_as_text(text, columns).with(") COLLATE \"C\" > $2 ORDER BY (");
    with_key_as_text(text, columns).with(") COLLATE \"C\" LIMIT 500")
}

/// Writes the MACs `$3` of the rows with the keys `$1`, each if it is still at its version of `$2`.
pub(crate) const fn reseal_text(table: &str, columns: &ColumnList) -> Text {
    let text = Text::new().with("UPDATE ").with(table).with(
        " t SET row_mac = s.mac FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS s (key, version, mac) WHERE ",
    );
    with_key_as_text(text, columns).with(" = s.key AND t.row_version = s.version")
}
