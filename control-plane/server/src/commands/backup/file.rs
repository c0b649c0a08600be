//! The file: a mark, the rows of each table in pieces, the manifest, its MAC, a mark.
//!
//! Owns the layout and reads nothing before the MAC over the manifest holds. Bounded memory both ways.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rap_authority::BackupKey;
use rap_runtime::files;
use rap_types::{Digest, Reason};

use crate::commands::backup::altered;
use crate::commands::backup::manifest::{BackupTable, Manifest};
use crate::failure::Failure;

/// A backup that is being written. Dropped before [`Self::finish`] it removes its file.
pub(crate) struct Writer {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    open: Option<(String, Hasher, u64, u64)>,
    tables: Vec<BackupTable>,
}

/// A backup whose manifest is authentic.
pub(crate) struct Reader {
    /// What it says of itself.
    pub manifest: Manifest,
    file: BufReader<File>,
    next: usize,
}

impl Writer {
    /// Makes a file that must not exist.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| io(path, &error))?;
        let mut writer =
            Self { path: path.to_owned(), file: Some(BufWriter::new(file)), open: None, tables: Vec::new() };
        writer.put(HEAD)?;
        Ok(writer)
    }

    /// Begins a table.
    pub fn table(&mut self, name: &str) {
        self.open = Some((name.to_owned(), Hasher::default(), 0, 0));
    }

    /// Adds a piece of the table's rows.
    pub fn rows(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for piece in bytes.chunks(PIECE) {
            if let Some((_, hasher, rows, size)) = &mut self.open {
                hasher.update(piece);
                *rows += piece.iter().filter(|&&byte| byte == b'\n').count() as u64;
                *size += piece.len() as u64;
            }
            self.put(&u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes())?;
            self.put(piece)?;
        }
        Ok(())
    }

    /// Ends the table.
    pub fn end(&mut self) -> Result<(), Failure> {
        if let Some((name, hasher, rows, bytes)) = self.open.take() {
            self.tables.push(BackupTable { name, rows, bytes, sha256: hasher.digest() });
        }
        self.put(&0u32.to_be_bytes())
    }

    /// Adds the manifest, to which it gives the tables, and its MAC; the file is on disk afterwards.
    pub fn finish(mut self, mut manifest: Manifest, key: &BackupKey) -> Result<Manifest, Failure> {
        manifest.tables = std::mem::take(&mut self.tables);
        let bytes = manifest.encode()?;
        self.put(&bytes)?;
        self.put(&key.mac(&bytes))?;
        self.put(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes())?;
        self.put(TAIL)?;
        let Some(file) = self.file.take() else { return Ok(manifest) };
        let synced = file.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all());
        let synced = synced.and_then(|()| match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        });
        if let Err(error) = synced {
            let _ = std::fs::remove_file(&self.path);
            return Err(io(&self.path, &error));
        }
        Ok(manifest)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|error| io(&self.path, &error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Half a backup is none.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Reader {
    /// Opens a file and authenticates its manifest.
    ///
    /// # Errors
    /// `backup.altered`, those of reading.
    pub fn open(path: &Path, key: &BackupKey) -> Result<Self, Failure> {
        let mut file = files::open_regular(path).map_err(|error| match error.is_not_found() {
            true => Failure::new(Reason::ResourceNotFound, error.to_string()),
            false => Failure::new(error.reason(), error.to_string()),
        })?;
        let size = file.metadata().map_err(|error| io(path, &error))?.len();
        let least = (HEAD.len() + END) as u64;
        if size < least {
            return Err(altered("the file is too short for a backup"));
        }
        let mut read = |from: u64, length: usize| {
            let mut bytes = vec![0; length];
            file.seek(SeekFrom::Start(from))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|error| io(path, &error))?;
            Ok::<_, Failure>(bytes)
        };
        let end = read(size - END as u64, END)?;
        let (mac, rest) = end.split_at(MAC);
        let (length, tail) = rest.split_at(4);
        let length = u32::from_be_bytes(length.try_into().unwrap_or_default()) as usize;
        if read(0, HEAD.len())? != HEAD || tail != TAIL {
            return Err(altered("the file is not a whole backup"));
        }
        if length > MANIFEST_CAP || least + length as u64 > size {
            return Err(altered("the manifest's length"));
        }
        let bytes = read(size - (END + length) as u64, length)?;
        key.check(&bytes, mac).map_err(|reject| altered(reject.what))?;
        let manifest = Manifest::decode(&bytes)?;
        // Pieces have a length each, and every table ends in a zero.
        let expected = manifest.tables.iter().map(|table| table.bytes + 4).sum::<u64>();
        if size < least + length as u64 + expected {
            return Err(altered("rows are missing"));
        }
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(HEAD.len() as u64)).map_err(|error| io(path, &error))?;
        Ok(Self { manifest, file, next: 0 })
    }

    /// The next table, in the manifest's order; its rows come from [`Self::rows`].
    pub fn table(&mut self) -> Option<BackupTableReader<'_>> {
        let expected = self.manifest.tables.get(self.next)?.clone();
        self.next += 1;
        Some(BackupTableReader { expected, file: &mut self.file, hasher: Hasher::default(), bytes: 0 })
    }

    /// After the last table only the manifest follows.
    pub fn at_the_end(&mut self) -> Result<(), Failure> {
        let mut rest = Vec::new();
        let most = (MANIFEST_CAP + END) as u64;
        (&mut self.file).take(most + 1).read_to_end(&mut rest).map_err(|_| altered("the end"))?;
        if rest.len() == self.manifest.encode()?.len() + END {
            Ok(())
        } else {
            Err(altered("more than rows"))
        }
    }
}

/// The rows of one table on their way out.
pub(crate) struct BackupTableReader<'f> {
    /// What the manifest says of it.
    pub expected: BackupTable,
    file: &'f mut BufReader<File>,
    hasher: Hasher,
    bytes: u64,
}

impl BackupTableReader<'_> {
    /// The next piece; `None` after the last, when the digest was compared.
    ///
    /// # Errors
    /// `backup.altered`.
    pub fn rows(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length).map_err(|_| altered(&self.expected.name))?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 {
            let digest = std::mem::take(&mut self.hasher).digest();
            return if digest == self.expected.sha256 && self.bytes == self.expected.bytes {
                Ok(None)
            } else {
                Err(altered(format!("rows of {}", self.expected.name)))
            };
        }
        self.bytes += length as u64;
        if length > PIECE || self.bytes > self.expected.bytes {
            return Err(altered(format!("rows of {}", self.expected.name)));
        }
        let mut piece = vec![0; length];
        self.file.read_exact(&mut piece).map_err(|_| altered(&self.expected.name))?;
        self.hasher.update(&piece);
        Ok(Some(piece))
    }
}

/// SHA-256 of rows that come in pieces of any size.
#[derive(Default)]
pub(crate) struct Hasher(sha2::Sha256);

impl Hasher {
    /// Adds a piece.
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// The digest of everything added.
    pub fn digest(self) -> Digest {
        Digest::from_bytes(sha2::Digest::finalize(self.0).into())
    }
}

fn io(path: &Path, error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => Reason::ResourceNotFound,
        std::io::ErrorKind::AlreadyExists => Reason::ResourceExists,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Reason::StateNoSpace,
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
            Reason::StateReadOnly
        }
        _ => Reason::StateIo,
    };
    Failure::new(reason, format!("{}: {error}", path.display()))
}

const HEAD: &[u8] = b"rap.backup.v1\n";

const TAIL: &[u8] = b"\nend of rap.backup.v1\n";

const MAC: usize = 32;

/// MAC, length of the manifest, mark.
const END: usize = MAC + 4 + TAIL.len();

const PIECE: usize = 256 * 1024;

const MANIFEST_CAP: usize = 16 * 1024 * 1024;
