//! A tar archive (POSIX ustar) of small regular files. Owns the format; nothing is compressed.

/// An archive being written.
#[derive(Debug)]
pub struct Archive {
    bytes: Vec<u8>,
    at: u64,
}

impl Archive {
    /// An empty one whose files have this time, seconds since 1970.
    pub const fn new(at: u64) -> Self {
        Self { bytes: Vec::new(), at }
    }

    /// Adds a file. Its path has at most 100 bytes; a longer one is cut.
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
        let path = path.as_bytes();
        put(0, &path[..path.len().min(100)]);
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", contents.len()).as_bytes());
        put(136, format!("{:011o}\0", self.at).as_bytes());
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(contents);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

const BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn what_is_put_in_comes_out_with_the_systems_tar() {
        let mut archive = Archive::new(1_700_000_000);
        archive.file("b/one.json", b"{}\n");
        archive.file("b/empty", b"");
        archive.file("b/two.txt", &[b'x'; 1025]);
        let bytes = archive.finish();
        assert_eq!(bytes.len() % BLOCK, 0);
        let folder = tempfile::tempdir().unwrap();
        let tar = Command::new("tar").arg("xf").arg("-").current_dir(&folder).stdin(Stdio::piped()).spawn();
        let mut tar = tar.expect("Debian's base has tar");
        tar.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(tar.wait().unwrap().success());
        let read = |name: &str| std::fs::read(folder.path().join("b").join(name)).unwrap();
        assert_eq!(
            (read("one.json"), read("empty"), read("two.txt")),
            (b"{}\n".into(), vec![], vec![b'x'; 1025])
        );
    }
}
