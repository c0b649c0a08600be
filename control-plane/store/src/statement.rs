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

/// Which columns a part of a statement names.
#[derive(Clone, Copy)]
enum Which {
    All,
    Key,
    Inserted,
    Updated,
}

impl Which {
    const fn has(self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::Key => kind.is_key(),
            Self::Inserted => kind.is_inserted(),
            Self::Updated => kind.is_updated(),
        }
    }
}

/// How it names them; parameters are counted from the given number.
#[derive(Clone, Copy)]
enum Form {
    Name,
    AsText,
    Parameter(usize),
    Equals(usize),
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

    /// `$number`, below 100.
    const fn with_parameter(mut self, number: usize) -> Self {
        self = self.with("$");
        if number >= 10 {
            self.bytes[self.length] = b'0' + (number / 10) as u8;
            self.length += 1;
        }
        self.bytes[self.length] = b'0' + (number % 10) as u8;
        self.length += 1;
        self
    }

    /// The columns that are wanted, in their order.
    const fn with_columns(
        mut self,
        columns: &ColumnList,
        which: Which,
        form: Form,
        between: &'static str,
    ) -> Self {
        let (mut at, mut found) = (0, 0);
        while at < columns.len() {
            let (name, kind) = columns[at];
            at += 1;
            if !which.has(kind) {
                continue;
            }
            self = self.with(if found == 0 { "" } else { between });
            self = match form {
                Form::Name => self.with(name),
                Form::AsText => self.with(name).with("::text"),
                Form::Parameter(first) => self.with_parameter(first + found),
                Form::Equals(first) => self.with(name).with(" = ").with_parameter(first + found),
            };
            found += 1;
        }
        self
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

const fn count(columns: &ColumnList, which: Which) -> usize {
    let (mut at, mut found) = (0, 0);
    while at < columns.len() {
        found += which.has(columns[at].1) as usize;
        at += 1;
    }
    found
}

/// `a, b, joined, row_version, row_mac`.
pub(crate) const fn names_text(columns: &ColumnList, joined: &[&str]) -> Text {
    let mut text = Text::new().with_columns(columns, Which::All, Form::Name, ", ");
    let mut at = 0;
    while at < joined.len() {
        text = text.with(", ").with(joined[at]);
        at += 1;
    }
    text.with(", row_version, row_mac")
}

/// `INSERT INTO table (a, b, row_mac) VALUES ($1, $2, $3)`.
pub(crate) const fn insert_text(table: &str, columns: &ColumnList) -> Text {
    let text = Text::new().with("INSERT INTO ").with(table).with(" (");
    let text = text.with_columns(columns, Which::Inserted, Form::Name, ", ").with(", row_mac) VALUES (");
    let text = text.with_columns(columns, Which::Inserted, Form::Parameter(1), ", ").with(", ");
    text.with_parameter(count(columns, Which::Inserted) + 1).with(")")
}

/// `UPDATE table SET sets, c = $3, row_version = row_version + 1, row_mac = $4 WHERE a = $1 AND row_version = $2`:
/// the parameters are the key, the version that is replaced, what changes, the new MAC. `sets` is empty, or sets
/// columns that are shown and ends with a comma. It comes first: where a parameter stands in an expression its type
/// is the plain one, which a column takes, and not the column's domain.
pub(crate) const fn update_text(table: &str, columns: &ColumnList, sets: &str) -> Text {
    let version = count(columns, Which::Key) + 1;
    let changes = count(columns, Which::Updated);
    let text = Text::new().with("UPDATE ").with(table).with(" SET ").with(sets);
    let text = text.with_columns(columns, Which::Updated, Form::Equals(version + 1), ", ");
    let text =
        text.with(if changes == 0 { "" } else { ", " }).with("row_version = row_version + 1, row_mac = ");
    let text = text.with_parameter(version + changes + 1).with(" WHERE ");
    let text = text.with_columns(columns, Which::Key, Form::Equals(1), " AND ");
    text.with(" AND row_version = ").with_parameter(version)
}

/// The row with the key `$1`, `$2`.
pub(crate) const fn one_text(select: &str, columns: &ColumnList) -> Text {
    let text = Text::new().with(select).with(" WHERE ");
    text.with_columns(columns, Which::Key, Form::Equals(1), " AND ")
}

/// The row with the key `$1` as text: its columns joined by `/`.
pub(crate) const fn by_text_text(select: &str, columns: &ColumnList) -> Text {
    with_key(Text::new().with(select).with(" WHERE "), columns).with(" = $1")
}

/// Every row of a scope, by key: of cluster `$1`, or of the installation.
pub(crate) const fn all_text(select: &str, columns: &ColumnList) -> Text {
    let text = Text::new().with(select).with(if in_cluster(columns) { " WHERE cluster_id = $1" } else { "" });
    text.with(" ORDER BY ").with_columns(columns, Which::Key, Form::Name, ", ")
}

/// Whether the rows belong to clusters, and not to the installation.
const fn in_cluster(columns: &ColumnList) -> bool {
    let mut at = 0;
    while at < columns.len() {
        // `==` is not to be had here.
        if matches!(columns[at].0.as_bytes(), b"cluster_id") {
            return true;
        }
        at += 1;
    }
    false
}

/// The next rows of a scope after the key that is the last parameter, by the key as text: its columns joined by `/`.
pub(crate) const fn after_text(select: &str, columns: &ColumnList) -> Text {
    let in_cluster = in_cluster(columns);
    let text =
        Text::new().with(select).with(if in_cluster { " WHERE cluster_id = $1 AND (" } else { " WHERE (" });
    let text = with_key(text, columns).with(") COLLATE \"C\" > ").with_parameter(1 + in_cluster as usize);
    with_key(text.with(" ORDER BY ("), columns).with(") COLLATE \"C\" LIMIT 500")
}

/// Writes the MACs `$3` of the rows with the keys `$1`, each if it is still at its version of `$2`.
pub(crate) const fn reseal_text(table: &str, columns: &ColumnList) -> Text {
    let text = Text::new().with("UPDATE ").with(table).with(
        " SET row_mac = s.mac FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS s (row_key, version, mac) WHERE ",
    );
    with_key(text, columns).with(" = s.row_key AND row_version = s.version")
}

const fn with_key(text: Text, columns: &ColumnList) -> Text {
    text.with_columns(columns, Which::Key, Form::AsText, " || '/' || ")
}
