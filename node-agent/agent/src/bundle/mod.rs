//! A support bundle: what a person who helps needs to see, in one archive, without a secret in it.
//!
//! Owns what goes in. Files that hold keys are never opened here; what is taken is listed one by one. With `--anonymize` every
//! file passes through [`anonymize`] as the last step before it is written.

pub mod anonymize;
mod archive;
mod host;
mod redact;

use serde_json::{Value, json};

use anonymize::Pseudonyms;

/// A bundle being filled.
#[derive(Debug, Default)]
pub struct Bundle {
    entries: Vec<(String, Content)>,
}

#[derive(Debug)]
enum Content {
    Json(Value),
    Text(String),
}

impl Bundle {
    /// Adds a document.
    pub fn json(&mut self, path: impl Into<String>, document: Value) {
        self.entries.push((path.into(), Content::Json(document)));
    }

    /// Adds lines of text.
    pub fn text(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.entries.push((path.into(), Content::Text(text.into())));
    }

    /// Adds what this host is: kernel, memory, devices, limits.
    pub fn host(&mut self) {
        self.json("host.json", host::facts());
    }

    /// Replaces ids, names, addresses, endpoints and keys. Names are learned from the documents first.
    pub fn anonymize(&mut self, pseudonyms: &mut Pseudonyms) {
        for (_, content) in &self.entries {
            if let Content::Json(document) = content {
                pseudonyms.learn(document);
            }
        }
        for (path, content) in &mut self.entries {
            *path = pseudonyms.text(path);
            match content {
                Content::Json(document) => pseudonyms.document(document),
                Content::Text(text) => *text = pseudonyms.text(text),
            }
        }
    }

    /// The archive: a tar file with everything below `rap-bundle/`, times at `at` seconds since 1970.
    pub fn archive(mut self, anonymized: bool, at: u64) -> Vec<u8> {
        let files: Vec<&str> = self.entries.iter().map(|(path, _)| path.as_str()).collect();
        let manifest = json!({
            "schema": "rap.bundle.v1",
            "agent_version": env!("CARGO_PKG_VERSION"),
            "anonymized": anonymized,
            "made_at_s": at,
            "files": files,
        });
        self.entries.insert(0, ("manifest.json".to_owned(), Content::Json(manifest)));
        let mut archive = archive::Archive::new(at);
        for (path, content) in &self.entries {
            let text = match content {
                Content::Json(document) => {
                    serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string()) + "\n"
                }
                Content::Text(text) => text.clone(),
            };
            archive.file(&format!("rap-bundle/{path}"), redact::redact(&text).as_bytes());
        }
        archive.finish()
    }
}
