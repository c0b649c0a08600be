//! A record that survives crashes, full disks and damage: two files, each checksummed, each complete.
//!
//! A file is one JSON document. Its first bytes are `{"sha256":"<64 hex>",` and the checksum covers every
//! byte after them, so bytes are checked before anything is parsed. `generation` rises with every write
//! attempt; both files get every generation, and the highest intact one wins. A crash between the two
//! files leaves the second one generation behind; damage to one file leaves the other.
//!
//! Refuses to reset: two damaged files are an error, and so is a schema of another program version.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rap_runtime::files::{FileError, gone, read_capped, write_atomic};
use rap_types::Digest;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::StateError;

/// What a file holds.
pub trait Record: Serialize + DeserializeOwned {
    /// Name and version, for example `rap.floors.v1`. Written into the file; any other value stops the
    /// reader before it touches the file.
    const SCHEMA: &'static str;
}

/// What opening had to repair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Copies that were damaged, absent or a generation behind, each with its cause.
    pub replaced: Vec<(PathBuf, String)>,
    /// Why the repaired copy could not be written, if so. The record is usable all the same.
    pub unhealed: Option<String>,
}

impl Recovery {
    /// True if both copies were intact and equal.
    pub fn is_clean(&self) -> bool {
        self.replaced.is_empty()
    }
}

/// One record and its two files. Calls block.
#[derive(Debug)]
pub struct Durable<T> {
    paths: [PathBuf; 2],
    generation: u64,
    value: Option<T>,
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'a str,
    generation: u64,
    body: &'a T,
}

#[derive(Deserialize)]
struct Header {
    schema: String,
    generation: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parsed<T> {
    #[serde(rename = "sha256")]
    _sha256: IgnoredAny,
    #[serde(rename = "schema")]
    _schema: IgnoredAny,
    #[serde(rename = "generation")]
    _generation: IgnoredAny,
    body: T,
}

/// One of the two files as found.
enum Copy<T> {
    Absent,
    Damaged(String),
    Intact { generation: u64, value: T, bytes: Zeroizing<Vec<u8>> },
}

impl<T: Record> Durable<T> {
    /// Reads the record at `path` and its twin, takes the highest intact generation and rewrites the
    /// other copy from it. Neither file there: the record has no value yet.
    pub fn open(path: &Path) -> Result<(Self, Recovery), StateError> {
        let paths = [path.to_owned(), twin(path)];
        let [first, second] = [Self::read(&paths[0])?, Self::read(&paths[1])?];
        let mut recovery = Recovery::default();
        let (generation, value) = match (first, second) {
            (Copy::Absent, Copy::Absent) => (0, None),
            (
                Copy::Intact { generation: one, value, bytes },
                Copy::Intact { generation: two, value: other, bytes: other_bytes },
            ) => {
                if one == two && bytes != other_bytes {
                    let why = format!("two different copies of generation {one}");
                    return Err(StateError::Corrupt { path: paths[0].clone(), why });
                }
                if one > two {
                    recovery.repair(&paths[1], format!("generation {two}, newest {one}"), &bytes);
                } else if two > one {
                    recovery.repair(&paths[0], format!("generation {one}, newest {two}"), &other_bytes);
                }
                if one >= two { (one, Some(value)) } else { (two, Some(other)) }
            }
            (Copy::Intact { generation, value, bytes }, bad) => {
                recovery.repair(&paths[1], bad.cause(), &bytes);
                (generation, Some(value))
            }
            (bad, Copy::Intact { generation, value, bytes }) => {
                recovery.repair(&paths[0], bad.cause(), &bytes);
                (generation, Some(value))
            }
            (one, two) => {
                let why = format!("{}; twin: {}", one.cause(), two.cause());
                return Err(StateError::Corrupt { path: paths[0].clone(), why });
            }
        };
        remove_left_overs(path);
        Ok((Self { paths, generation, value }, recovery))
    }

    /// The record as last stored, if it ever was.
    pub fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Writes the record. After `Ok` both copies are on disk; after an error the value here is the old
    /// one and the disk has the old or the new.
    pub fn store(&mut self, value: T) -> Result<(), StateError> {
        // Raised before the attempt: a generation never has two contents, even if this write fails.
        self.generation += 1;
        let bytes = encode(self.generation, &value)?;
        for path in &self.paths {
            write_atomic(path, &bytes, 0o600)?;
        }
        self.value = Some(value);
        Ok(())
    }

    /// Removes both copies.
    pub fn remove(self) -> Result<(), StateError> {
        for path in self.paths {
            gone(std::fs::remove_file(&path)).map_err(|source| FileError::Io { path, source })?;
        }
        Ok(())
    }

    fn read(path: &Path) -> Result<Copy<T>, StateError> {
        let bytes = match read_capped(path, MAX_RECORD) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.is_not_found() => return Ok(Copy::Absent),
            // No access says nothing about the file: an agent under the wrong user must not "repair" it.
            Err(error) if error.reason() == rap_types::Reason::StateReadOnly => return Err(error.into()),
            Err(error) => return Ok(Copy::Damaged(error.to_string())),
        };
        if let Err(why) = checked(&bytes) {
            return Ok(Copy::Damaged(why.to_owned()));
        }
        // The bytes are as some program wrote them. What does not decode now is another version's.
        let foreign =
            |found: String| StateError::Schema { path: path.to_owned(), found, known: T::SCHEMA.to_owned() };
        let header: Header = serde_json::from_slice(&bytes)
            .map_err(|error| foreign(format!("unreadable: {}", place(&error))))?;
        let Header { schema, generation } = header;
        if schema != T::SCHEMA {
            return Err(foreign(schema));
        }
        let parsed: Parsed<T> = serde_json::from_slice(&bytes)
            .map_err(|error| foreign(format!("{schema} with unknown contents at {}", place(&error))))?;
        Ok(Copy::Intact { generation, value: parsed.body, bytes })
    }
}

impl<T> Copy<T> {
    fn cause(&self) -> String {
        match self {
            Self::Absent => "absent".to_owned(),
            Self::Damaged(why) => why.clone(),
            Self::Intact { .. } => "intact".to_owned(),
        }
    }
}

impl Recovery {
    fn repair(&mut self, path: &Path, cause: String, bytes: &[u8]) {
        tracing::warn!(path = %path.display(), %cause, "state file replaced from its twin");
        self.replaced.push((path.to_owned(), cause));
        if let Err(error) = write_atomic(path, bytes, 0o600) {
            tracing::error!(path = %path.display(), %error, "state file could not be repaired");
            self.unhealed = Some(error.to_string());
        }
    }
}

/// The second file of a record.
pub fn twin(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".twin");
    path.with_file_name(name)
}

fn encode<T: Record>(generation: u64, body: &T) -> Result<Zeroizing<Vec<u8>>, StateError> {
    // One allocation for an ordinary record, so that a key leaves no copies behind.
    let mut json = Zeroizing::new(Vec::with_capacity(TYPICAL_RECORD));
    let document = Document { schema: T::SCHEMA, generation, body };
    serde_json::to_writer_pretty(&mut *json, &document).map_err(|error| StateError::Corrupt {
        path: PathBuf::new(),
        why: format!("{} cannot be written as JSON: {error}", T::SCHEMA),
    })?;
    json.push(b'\n');
    let rest = json.get(1..).unwrap_or_default();
    let mut prefix = String::with_capacity(PREFIX);
    // Writing to a String cannot fail.
    let _ = write!(prefix, "{OPEN}{}{CLOSE}", Digest::of(&[rest]));
    let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len() + rest.len()));
    bytes.extend_from_slice(prefix.as_bytes());
    bytes.extend_from_slice(rest);
    if bytes.len() > MAX_RECORD {
        return Err(StateError::Full {
            what: T::SCHEMA,
            needed: bytes.len() as u64,
            limit: MAX_RECORD as u64,
        });
    }
    Ok(bytes)
}

fn checked(bytes: &[u8]) -> Result<(), &'static str> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else { return Err("truncated") };
    let expected = format!("{OPEN}{}{CLOSE}", Digest::of(&[rest]));
    if prefix == expected.as_bytes() { Ok(()) } else { Err("checksum does not match") }
}

/// Where parsing failed. The error's own text may quote contents.
fn place(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

/// Temporary files of writes that a crash cut off.
fn remove_left_overs(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let prefix = format!(".{name}.");
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|found| found.starts_with(&prefix)) {
            // Harmless if it stays.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

const OPEN: &str = "{\"sha256\":\"";
const CLOSE: &str = "\",";
const PREFIX: usize = OPEN.len() + 64 + CLOSE.len();
/// Largest file of a record.
const MAX_RECORD: usize = 1024 * 1024;
const TYPICAL_RECORD: usize = 16 * 1024;
