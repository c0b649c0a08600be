//! The database of this process: a private PostgreSQL, or one that somebody else runs.

use std::time::Duration;

use rap_runtime::Secret;
use rap_store::postgres::{EmbeddedPostgres, EmbeddedSettings};
use rap_store::{DatabaseTarget, PoolSettings, Store, migrate_up};
use rap_types::Reason;

use crate::config::settings;
use crate::config::settings::Config;
use crate::failure::Failure;

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
    pub async fn open(config: &Config) -> Result<Self, Failure> {
        let url = match &config.database {
            settings::DatabaseSource::Embedded => {
                let mut settings = EmbeddedSettings::new(&config.data_dir);
                settings.bin_dir = std::env::var_os("RAP_POSTGRES_BIN_DIR").map(Into::into);
                let postgres = EmbeddedPostgres::start(&settings).await?;
                return Ok(Self { target: DatabaseTarget::embedded(&postgres), embedded: Some(postgres) });
            }
            settings::DatabaseSource::Url(url) => Secret::new(url.clone().into_bytes()),
            settings::DatabaseSource::UrlFile(path) => Secret::read("RAP_DATABASE_URL", path)?,
        };
        let target = DatabaseTarget::from_urls(url.expose_text().unwrap_or_default(), None, None)?;
        Ok(Self { target, embedded: None })
    }

    /// As [`Self::open`], or where another process already serves from the same data directory, its
    /// private server.
    pub async fn open_or_join(config: &Config) -> Result<Self, Failure> {
        match Self::open(config).await {
            Err(fault) if fault.reason == Reason::StateLocked => {
                let target = DatabaseTarget::embedded_elsewhere(&EmbeddedSettings::new(&config.data_dir))?;
                Ok(Self { target, embedded: None })
            }
            opened => opened,
        }
    }

    /// Applies missing migrations and opens the pools, unless a role could step outside its policies.
    pub async fn store(&self) -> Result<Store, Failure> {
        let at = |failure: Failure| {
            Failure::new(failure.reason, format!("database at {}: {}", self.target.place(), failure.message))
        };
        migrate_up(&self.target).await.map_err(|error| at(error.into()))?;
        Store::open(&self.target, &PoolSettings::default()).await.map_err(|error| at(error.into()))
    }

    /// Does work on the store, and closes it whatever became of the work.
    pub(crate) async fn with_store<T>(
        &self,
        work: impl AsyncFnOnce(&Store) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let store = self.store().await?;
        let outcome = work(&store).await;
        store.close().await;
        outcome
    }

    /// Does work, and stops the private server whatever became of the work.
    pub(crate) async fn during<T>(
        self,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let outcome = work(&self).await;
        self.stop().await;
        outcome
    }

    /// Stops the private server.
    pub async fn stop(self) {
        if let Some(postgres) = self.embedded {
            postgres.stop().await;
        }
    }
}

/// How long the drain of tasks may take at shutdown.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
