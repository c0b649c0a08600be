//! The attacks: one vector each, named after what it tries.
#![allow(dead_code)]

mod audit;
mod break_glass;
mod documents;
mod exports;
mod grants;
mod heads;
mod keys;
mod paths;
mod revocations;

use prost::Message as _;
use rap_contract::*;
use rap_types::Wall;
use rap_wire::v1;
use serde_json::{Value, json};

use crate::fixture::*;

/// One input and what must become of it.
pub struct Vector {
    pub name: String,
    pub kind: &'static str,
    pub input: Vec<u8>,
    pub records: Vec<Vec<u8>>,
    pub now: Wall,
    pub features: Vec<&'static str>,
    pub outcome: &'static str,
}

pub fn all() -> Vec<Vector> {
    let mut vectors = keys::all();
    vectors.extend(documents::all());
    vectors.extend(grants::all());
    vectors.extend(break_glass::all());
    vectors.extend(heads::all());
    vectors.extend(exports::all());
    vectors.extend(audit::all());
    vectors.extend(revocations::all());
    vectors.extend(paths::all());
    vectors
}

pub fn vector(kind: &'static str, attack: &str, input: Vec<u8>, outcome: &'static str) -> Vector {
    let name = format!("{kind}-{attack}");
    Vector { name, kind, input, records: vec![], now: NOW, features: vec![], outcome }
}

impl Vector {
    pub fn at(mut self, now: Wall) -> Self {
        self.now = now;
        self
    }

    pub fn knowing(mut self, feature: &'static str) -> Self {
        self.features.push(feature);
        self
    }

    /// The file: the input, what the verifier knows beforehand, and the outcome.
    pub fn document(&self) -> Value {
        let encode = |records: &[Vec<u8>]| -> Vec<String> { records.iter().map(hex::encode).collect() };
        json!({
            "schema": "rap.vector.v1",
            "name": self.name,
            "kind": self.kind,
            "input": hex::encode(&self.input),
            "records": encode(&self.records),
            "now_ms": self.now.0,
            "features": self.features,
            "known": known(),
            "outcome": self.outcome,
        })
    }
}

/// What every verifier of the golden set has pinned.
fn known() -> Value {
    let key = |signer: Signer| signer.public().to_string();
    json!({
        "product_root": key(root()),
        "installation_authority": key(installation_authority()),
        "first_authority": key(first_authority()),
        "cluster_authority": key(authority()),
        "other_purpose_key": key(signer(7)),
        "revoked_key": key(signer(8)),
        "installation_id": installation().to_string(),
        "cluster_id": cluster().to_string(),
        "node_key": key(node_key()),
        "wireguard_key": hex::encode(WIREGUARD),
        "server_trust_pin": hex::encode(PIN),
        "token_id": token_id().to_string(),
        "request_id": request_id().to_string(),
        "nonce": hex::encode(NONCE),
    })
}

/// The envelope of `bytes` with its parts changed by hand.
pub fn reshaped(bytes: &[u8], change: impl FnOnce(&mut v1::SignedEnvelope)) -> Vec<u8> {
    let mut envelope = v1::SignedEnvelope::decode(bytes).unwrap();
    change(&mut envelope);
    envelope.encode_to_vec()
}

/// `document` with its header changed, signed again.
pub fn with_header<T: Document + Clone>(
    document: &T,
    signers: &[&Signer],
    set: impl FnOnce(&mut T, v1::Header),
    change: impl FnOnce(&mut v1::Header),
) -> Vec<u8> {
    let mut document = document.clone();
    let mut header = document.header().unwrap().clone();
    change(&mut header);
    set(&mut document, header);
    sign(&document, signers)
}
