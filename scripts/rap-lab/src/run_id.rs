//! Names of one lab run. Owns the spelling that marks everything a run makes.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::folder::Folder;

/// `<lab name>-<eight hex digits>`: four for the folder, four for the run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A new run of the lab in this folder.
    pub fn new(folder: &Folder) -> Result<Self> {
        let lab = folder.lab();
        check_name(lab, 20)?;
        Ok(Self(format!("{lab}-{:04x}{:04x}", folder_digits(folder), rand::random::<u16>())))
    }

    /// Reads one back; `None` for text that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (lab, digits) = text.rsplit_once('-')?;
        let hex = digits.len() == 8 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        (hex && check_name(lab, 20).is_ok()).then(|| Self(text.to_owned()))
    }

    /// The lab's name.
    pub fn lab(&self) -> &str {
        self.0.rsplit_once('-').map_or("", |(lab, _)| lab)
    }

    /// True if this is a run of the lab in this folder, and not of one with the same name elsewhere.
    pub fn belongs_to(&self, folder: &Folder) -> bool {
        let start = format!("{}-{:04x}", folder.lab(), folder_digits(folder));
        self.0.len() == start.len() + 4 && self.0.starts_with(&start)
    }

    /// Network namespace of a host.
    pub fn namespace(&self, host: &str) -> String {
        format!("{NAMESPACE_PREFIX}{}-{host}", self.0)
    }

    /// The run that a network namespace belongs to; `None` for one that no lab made.
    pub fn of_namespace(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(NAMESPACE_PREFIX)?;
        rest.match_indices('-').find_map(|(at, _)| Self::parse(&rest[..at]))
    }

    /// Three octets of the loopback network of this run; hosts add the fourth.
    pub fn loopback_network(&self) -> [u8; 3] {
        let number = self.0.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        [127, 16 + (number % 224) as u8, (number / 224 % 256) as u8]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Names of labs and hosts: lower-case letters, digits and dashes, and short, because interfaces and sockets carry them.
pub fn check_name(name: &str, longest: usize) -> Result<()> {
    let plain =
        name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-');
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase());
    ensure!(
        plain && starts && name.len() <= longest,
        "`{name}` is no name: 1 to {longest} of a-z, 0-9 and -, the first of them a letter"
    );
    Ok(())
}

fn folder_digits(folder: &Folder) -> u16 {
    let bytes = folder.path().as_os_str().as_bytes();
    bytes.iter().fold(0x811c_u16, |sum, byte| (sum ^ u16::from(*byte)).wrapping_mul(0x0193))
}

const NAMESPACE_PREFIX: &str = "raplab-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_its_run() {
        let run = RunId::new(&Folder::at("/x/spine-two")).expect("run id");
        assert_eq!(RunId::of_namespace(&run.namespace("node-a")), Some(run.clone()));
        assert_eq!(run.lab(), "spine-two");
        assert_eq!(RunId::of_namespace("raplab-x"), None);
        assert_eq!(RunId::of_namespace("other-spine-00000000-a"), None);
    }

    #[test]
    fn labs_of_one_name_in_two_folders_are_two() {
        let (one, other) = (Folder::at("/one/spine"), Folder::at("/other/spine"));
        let run = RunId::new(&one).expect("run id");
        assert!(run.belongs_to(&one));
        assert!(!run.belongs_to(&other));
        assert!(!run.belongs_to(&Folder::at("/one/spine-two")));
    }

    #[test]
    fn names_that_no_interface_or_path_can_carry_are_refused() {
        for name in ["", "A", "1a", "a/b", "a b", "..", "an-overlong-name-of-a-lab"] {
            assert!(check_name(name, 20).is_err(), "{name:?}");
        }
    }

    #[test]
    fn loopback_networks_stay_clear_of_127_0_0() {
        for number in 0..=u16::MAX {
            let run = RunId::parse(&format!("x-0000{number:04x}")).expect("run id");
            let [first, second, _] = run.loopback_network();
            assert_eq!(first, 127);
            assert!((16..=239).contains(&second));
        }
    }
}
