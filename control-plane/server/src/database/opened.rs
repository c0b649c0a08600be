//! The database of this process: a private PostgreSQL, or one that somebody else runs.

use std::time::Duration;

use rap_runtime::{Fault, Secret};
use rap_store::postgres::{EmbeddedPostgres, EmbeddedSettings};
use rap_store::{DatabaseTarget, PoolSettings, Store, migrate_up};
use rap_types::Reason;

use crate::config::settings;
use crate::config::settings::Config;

/// A database that answers.
#[derive(Debug)]
pub struct OpenDatabase {
    /// How to connect.
    pub target: DatabaseTarget,
    /// The private server, if it is ours.
    pub embedded: Option<EmbeddedPostgres>,
}

impl OpenDatabase {
    /// Starts the private server, or reads where the other one is.
    pub async fn open(config: &Config) -> Result<Self, Fault> {
        let url = match &config.database {
            settings::DatabaseSource::Embedded => {
                let mut settings = EmbeddedSettings::new(&config.data_dir);
                settings.bin_dir = std::env::var_os("RAP_POSTGRES_BIN_DIR").map(Into::into);
                let postgres = EmbeddedPostgres::start(&settings)
                    .await
                    .map_err(|error| Fault::new(error.reason(), chain(&error)))?;
                return Ok(Self { target: DatabaseTarget::embedded(&postgres), embedded: Some(postgres) });
            }
            settings::DatabaseSource::Url(url) => Secret::new(url.clone().into_bytes()),
            settings::DatabaseSource::UrlFile(path) => Secret::read("RAP_DATABASE_URL", path)
                .map_err(|error| Fault::new(error.reason(), error.to_string()))?,
        };
        let target = DatabaseTarget::from_urls(url.expose_text().unwrap_or_default(), None, None)
            .map_err(|error| Fault::new(error.reason(), error.to_string()))?;
        Ok(Self { target, embedded: None })
    }

    /// As [`Self::open`], or where another process already serves from the same data directory, its
    /// private server.
    pub async fn open_or_join(config: &Config) -> Result<Self, Fault> {
        match Self::open(config).await {
            Err(fault) if fault.reason == Reason::StateLocked => {
                let target = DatabaseTarget::embedded_elsewhere(&EmbeddedSettings::new(&config.data_dir));
                let target = target.map_err(|error| Fault::new(error.reason(), chain(&error)))?;
                Ok(Self { target, embedded: None })
            }
            opened => opened,
        }
    }

    /// Applies missing migrations and opens the pools, unless a role could step outside its policies.
    pub async fn store(&self) -> Result<Store, Fault> {
        let at =
            |reason, text: String| Fault::new(reason, format!("database at {}: {text}", self.target.place()));
        migrate_up(&self.target).await.map_err(|error| at(error.reason(), chain(&error)))?;
        Store::open(&self.target, &PoolSettings::default())
            .await
            .map_err(|error| at(error.reason(), chain(&error)))
    }

    /// Stops the private server.
    pub async fn stop(self) {
        if let Some(postgres) = self.embedded {
            postgres.stop().await;
        }
    }
}

/// An error with its sources, which carry no values.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// How long the drain of tasks may take at shutdown.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
