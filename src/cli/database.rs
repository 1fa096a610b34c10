//! Which database a command reads.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::store::{Reading, file_of};

/// Where the database is.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Database {
    /// The database: the sensor's, or that of a replay with --state
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// The sensor's configuration file, which says where its database is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Database {
    /// The configuration; the default one if only the database is named.
    ///
    /// # Errors
    /// If the file is refused.
    pub fn config(&self) -> anyhow::Result<Config> {
        Ok(match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        })
    }

    /// The configuration file, if it was named.
    pub fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The database's file.
    ///
    /// # Errors
    /// If the configuration keeps nothing.
    pub fn path(&self, config: &Config) -> anyhow::Result<PathBuf> {
        match &self.state {
            Some(path) => Ok(path.clone()),
            None => file_of(config, self.config.as_deref())
                .ok_or_else(|| anyhow::anyhow!("a sensor with this configuration keeps nothing: set `store.path`")),
        }
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(&self, config: &Config) -> anyhow::Result<Reading> {
        Ok(Reading::open(&self.path(config)?)?)
    }
}
