//! The packet filter of one interface: loaded, and loaded again when others removed it.

use rap_hostnet::{Applied, ruleset};

use crate::nft;

/// The packet filter.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    table: String,
    /// The text that was loaded last.
    text: Option<String>,
    /// What the kernel listed after it was loaded.
    listed: Option<String>,
    failed: Option<String>,
}

impl Guard {
    /// Loads the rules for what is applied, unless they are loaded.
    pub(crate) async fn load(&mut self, interface: &str, applied: &Applied) {
        self.table = nft::table(interface);
        let text = ruleset(&self.table, interface, applied);
        if self.failed.is_some() || self.text.as_ref() != Some(&text) {
            self.text = Some(text);
            self.load_again().await;
        }
    }

    /// Loads the same rules again.
    pub(crate) async fn load_again(&mut self) {
        let Some(text) = &self.text else { return };
        let loaded = nft::load(text).await;
        self.failed = loaded.err().map(|error| error.to_string());
        if let Some(error) = &self.failed {
            tracing::warn!(error, "no packet filter for overlay addresses");
        }
        self.listed = nft::listed(&self.table).await.ok().flatten();
    }

    /// True if rules were loaded and are not there any more as they were.
    pub(crate) async fn is_changed(&self) -> bool {
        if self.text.is_none() || self.failed.is_some() {
            return false;
        }
        nft::listed(&self.table).await.is_ok_and(|listed| listed != self.listed)
    }

    /// Why there are no rules.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}
