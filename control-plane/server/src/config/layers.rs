//! Where the control plane's options are written. Owns the places; precedence is `settings_layers`'.

use std::path::{Path, PathBuf};

use rap_runtime::Secret;

use crate::config::raw::Raw;

/// The control plane's options, by source.
pub type Layers = rap_runtime::settings_layers::Layers<Raw>;

/// Read unless another file is named; may be absent.
const DEFAULT_FILE: &str = "/etc/rap/control-plane.toml";

/// Used unless another directory is named.
pub(crate) const DEFAULT_DATA_DIR: &str = "/var/lib/rap/control-plane";

/// What `init` records inside the data directory.
pub const SETTINGS_FILE: &str = "settings.toml";

/// Reads the file (`named`, or the default one if it exists), the settings of the data directory, and the credential
/// of the service manager that names the database. `anew`: of the settings of the data directory, only where the
/// database is.
pub fn read(given: &Raw, named: Option<&Path>, anew: bool) -> Layers {
    let mut layers = Layers::read(given, named, DEFAULT_FILE);
    let data_dir = PathBuf::from(layers.text("data_dir").unwrap_or(DEFAULT_DATA_DIR));
    layers.record_file(&data_dir.join(SETTINGS_FILE));
    if anew {
        let place: &[&str] = if layers.text("database_url").is_some() { &[] } else { &["database_url_file"] };
        layers.keep_recorded(place);
    }
    if ["database_url", "database_url_file"].into_iter().all(|key| layers.text(key).is_none())
        && let Some(credential) = Secret::credential("RAP_DATABASE_URL")
    {
        layers.record("database_url_file", credential.display().to_string());
    }
    layers
}

#[cfg(test)]
mod tests {
    use rap_runtime::settings_layers::Origin;

    use super::*;

    #[test]
    fn the_settings_of_the_data_directory_that_the_file_names_lie_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control-plane.toml");
        std::fs::write(&file, format!("data_dir = {:?}\nlog = \"warn\"\n", dir.path())).unwrap();
        let settings = "log = \"trace\"\nauthority_mode = \"dev\"\n";
        std::fs::write(dir.path().join(SETTINGS_FILE), settings).unwrap();
        assert_eq!(read(&Raw::default(), Some(&file), true).origin("authority_mode"), Origin::Default);
        let layers = read(&Raw::default(), Some(&file), false);
        let (raw, problems) = layers.merge();
        assert_eq!(problems, []);
        assert_eq!((raw.log.as_deref(), raw.authority_mode.as_deref()), (Some("warn"), Some("dev")));
        assert_eq!(layers.origin("authority_mode"), Origin::Init);
    }
}
