//! Grants: who may operate the platform.

use std::path::Path;
use std::time::Duration;

use rap_contract::{PublicKey, PublicKeyFile};
use rap_runtime::Fault;
use rap_types::{Digest, KeyId, PlatformRole, Reason};
use rap_wire::v1;
use serde_json::{Value, json};

use crate::args::{Global, Grant as Command};
use crate::client::{Connection, ask};
use crate::duration::milliseconds;
use crate::files;
use crate::output::{Answer, confirm, time};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => list(global).await,
        Command::Show { grant } => {
            let found = find(&mut Connection::of_context(global).await?, grant).await?;
            shown("rap.grant.v1", &found).print(global)
        }
        Command::Add { name, key, role, ttl } => add(global, name, &key, role, ttl).await,
        Command::Revoke { grant, reason } => revoke(global, grant, reason).await,
        Command::Set { out } => set(global, out.as_deref()).await,
    }
}

async fn list(global: &Global) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let answer = ask!(connection.grants.list(v1::GrantListRequest {}));
    let rows = answer.grants.iter().map(|grant| {
        [
            grant.name.clone(),
            grant.platform_role.clone(),
            grant.state.clone(),
            time(grant.expires_at_ms),
            KeyId::of(&grant.subject_key).to_string(),
            hex::encode(&grant.digest),
        ]
    });
    let grants: Vec<Value> = answer.grants.iter().map(document).collect();
    let set = answer.set.unwrap_or_default();
    Answer::new("rap.grants.v1", json!({ "set": set_document(&set), "grants": grants }))
        .table(["NAME", "ROLE", "STATE", "UNTIL", "KEY", "DIGEST"], 1, rows)
        .print(global)
}

async fn find(connection: &mut Connection, grant: String) -> anyhow::Result<v1::PlatformGrant> {
    Ok(ask!(connection.grants.show(v1::GrantRef { grant })))
}

async fn add(
    global: &Global,
    name: String,
    key: &Path,
    role: PlatformRole,
    ttl: Option<Duration>,
) -> anyhow::Result<()> {
    let key = public_key(key)?;
    let mut connection = Connection::of_context(global).await?;
    let words = key.id().words();
    if role != PlatformRole::Admin {
        confirm(global, &format!("Make {name} {role}? Key {} ({words})", key.id()))?;
    }
    let grant = ask!(connection.grants.add(v1::GrantAddRequest {
        name,
        subject_key: key.to_vec(),
        platform_role: role.to_string(),
        valid_for_ms: ttl.map_or(0, milliseconds),
    }));
    shown("rap.grant.v1", &grant)
        .next("rapctl context export > platform.context, and the operator: rapctl context import platform.context")
        .print(global)
}

async fn revoke(global: &Global, grant: String, reason: String) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let found = find(&mut connection, grant).await?;
    let key = KeyId::of(&found.subject_key);
    confirm(global, &format!("Revoke {} of {} with key {key}?", found.platform_role, found.name))?;
    // By digest: the name may be granted again meanwhile.
    let grant =
        ask!(connection.grants.revoke(v1::GrantRevokeRequest { grant: hex::encode(&found.digest), reason }));
    shown("rap.grant.v1", &grant).print(global)
}

async fn set(global: &Global, out: Option<&Path>) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let set = ask!(connection.grants.newest_set(v1::GrantSetRequest {}));
    if let Some(out) = out {
        files::create_new(out, &set.set, 0o644)?;
    }
    let digest = hex::encode(&set.digest);
    Answer::new("rap.grant-set.v1", set_document(&set))
        .properties([
            ("sequence", set.sequence.to_string()),
            ("digest", digest),
            ("signed", time(set.issued_at_ms)),
            ("until", time(set.expires_at_ms)),
        ])
        .print(global)
}

fn public_key(path: &Path) -> anyhow::Result<PublicKey> {
    let invalid = |what: &str| Fault::new(Reason::KeyInvalid, format!("{}: {what}", path.display()));
    let file =
        PublicKeyFile::parse(&files::read_text(path, 16 * 1024)?).map_err(|reject| invalid(reject.what))?;
    // The key of a root or of an authority is nobody's to log in with.
    if !["operator", "owner"].contains(&file.purpose.as_str()) {
        let text = format!("{}: a key for {}, not for an operator", path.display(), file.purpose);
        return Err(Fault::new(Reason::KeyPurpose, text).into());
    }
    match file.public_keys().map_err(|reject| invalid(reject.what))?.as_slice() {
        [key] => Ok(*key),
        _ => Err(invalid("an operator has one key").into()),
    }
}

fn shown(schema: &'static str, grant: &v1::PlatformGrant) -> Answer {
    let key = KeyId::of(&grant.subject_key);
    Answer::new(schema, document(grant)).properties([
        ("name", grant.name.clone()),
        ("role", grant.platform_role.clone()),
        ("state", grant.state.clone()),
        ("key", key.to_string()),
        ("words", key.words()),
        ("granted", time(grant.issued_at_ms)),
        ("until", time(grant.expires_at_ms)),
        ("revoked", time(grant.revoked_at_ms)),
        ("digest", hex::encode(&grant.digest)),
        ("newest set", grant.set_sequence.to_string()),
    ])
}

fn document(grant: &v1::PlatformGrant) -> Value {
    json!({
        "name": grant.name, "platform_role": grant.platform_role, "state": grant.state,
        "key": { "fingerprint": KeyId::of(&grant.subject_key), "public_key": hex::encode(&grant.subject_key) },
        "digest": hex::encode(&grant.digest), "issued_at_ms": grant.issued_at_ms,
        "expires_at_ms": grant.expires_at_ms, "revoked_at_ms": grant.revoked_at_ms,
        "taken_up": grant.taken_up, "set_sequence": grant.set_sequence,
    })
}

fn set_document(set: &v1::GrantSetAnswer) -> Value {
    json!({
        "sequence": set.sequence, "digest": Digest::from_slice(&set.digest).ok(),
        "issued_at_ms": set.issued_at_ms, "expires_at_ms": set.expires_at_ms,
    })
}
