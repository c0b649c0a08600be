//! Login: a channel-bound signature by the operator's key; the first one consumes the manifest.

use std::path::{Path, PathBuf};

use prost::Message as _;
use rap_contract::{ActivationTerms, Expectation, FEATURE_DEV, LOGIN_PROOF, Signer, sign_possession};
use rap_rpc::Refusal;
use rap_rpc::dial::ControlUrl;
use rap_runtime::Fault;
use rap_types::{ClusterId, Digest, InstallationId, Reason};
use rap_wire::v1;
use serde_json::json;

use crate::args::{Global, Login};
use crate::client::{Connection, ask, told};
use crate::contexts::{Context, Contexts, Session, nameable};
use crate::output::{Answer, time};
use crate::{files, key_store};

/// What is known of the server before the first connection.
struct Target {
    url: String,
    pin: Digest,
    installation: InstallationId,
    manifest: Option<Vec<u8>>,
    key: PathBuf,
}

pub(crate) async fn login(global: &Global, command: Login) -> anyhow::Result<()> {
    let mut contexts = Contexts::load(global)?;
    let target = match &command.activate {
        Some(path) => target_of_manifest(&command, path)?,
        None => target_of_context(global, &contexts, &command)?,
    };
    // Before the passphrase is asked for.
    ControlUrl::parse(&target.url)?;
    let name = context_name(global, &contexts, &target);
    nameable(&name)?;
    if !target.key.exists() {
        let text = format!(
            "no key file {}: carry it to this machine, or name it with --key FILE",
            target.key.display()
        );
        return Err(Fault::new(Reason::ResourceNotFound, text).into());
    }
    let signer = key_store::open(&target.key, &command.protect)?;
    let mut connection = Connection::open(&target.url, target.pin, global.timeout).await?;
    let answer = match &target.manifest {
        Some(manifest) => match prove(&mut connection, &target, &signer, Some(manifest)).await {
            // Activated before: the same owner key logs in.
            Err(refusal) if refusal.reason == Reason::ActivationReplayed => {
                prove(&mut connection, &target, &signer, None).await?
            }
            answer => answer?,
        },
        None => prove(&mut connection, &target, &signer, None).await?,
    };
    let first = target.manifest.is_some();
    let key = std::path::absolute(&target.key).unwrap_or(target.key);
    let context = Context {
        url: target.url.clone(),
        tls_ca_pin: target.pin,
        installation_id: target.installation,
        cluster: contexts.contexts.get(&name).and_then(|known| known.cluster.clone()),
        key: Some(key),
        session: Some(Session { secret: answer.session, expires_at_ms: answer.expires_at_ms }),
    };
    contexts.contexts.insert(name.clone(), context);
    contexts.current = Some(name.clone());
    contexts.save(global)?;
    let body = json!({
        "context": name, "url": target.url, "installation_id": target.installation,
        "operator": answer.operator_name, "platform_role": answer.platform_role,
        "expires_at_ms": answer.expires_at_ms,
    });
    Answer::new("rap.login.v1", body)
        .properties([
            ("context", name),
            ("url", target.url),
            ("operator", answer.operator_name),
            ("platform role", answer.platform_role),
            ("session until", time(answer.expires_at_ms)),
        ])
        .next(if first { "rapctl cluster create prod" } else { "rapctl status" })
        .print(global)
}

pub(crate) async fn logout(global: &Global) -> anyhow::Result<()> {
    let mut contexts = Contexts::load(global)?;
    let (name, _) = contexts.select(global)?;
    let mut connection = Connection::of_context(global).await?;
    ask!(connection.admin.logout(v1::LogoutRequest {}));
    if let Some(context) = contexts.contexts.get_mut(&name) {
        context.session = None;
    }
    contexts.save(global)?;
    Answer::new("rap.logout.v1", json!({ "context": name }))
        .properties([("logged out of", name.clone())])
        .print(global)
}

fn target_of_manifest(command: &Login, path: &Path) -> anyhow::Result<Target> {
    let bytes = files::read(path, 16 * 1024)?;
    let terms = match &command.root {
        Some(root) => {
            let roots = files::roots(root, 16 * 1024)?;
            // A development manifest is its owner's business: the server shows its mode.
            let features: &[&str] = &[FEATURE_DEV];
            let expect = Expectation { cluster: Some(ClusterId::ZERO), features, ..Expectation::default() };
            ActivationTerms::open(&bytes, &roots, &expect).map_err(|reject| files::rejected(path, reject))?.1
        }
        None => read_unchecked(&bytes, path)?,
    };
    let url = command
        .url
        .clone()
        .ok_or(Fault::new(Reason::RequestInvalid, "login --activate needs the control URL"))?;
    Ok(Target {
        url,
        pin: terms.tls_ca_pin,
        installation: terms.installation,
        key: command.key.clone().unwrap_or_else(|| path.with_extension("owner.key")),
        manifest: Some(bytes),
    })
}

/// The manifest came from the owner's own hands; the server verifies it against its Product Root.
/// It is read here only for the pin that the server must match.
fn read_unchecked(bytes: &[u8], path: &Path) -> anyhow::Result<ActivationTerms> {
    let malformed =
        || Fault::new(Reason::EnvelopeMalformed, format!("{}: not an activation manifest", path.display()));
    let envelope = v1::SignedEnvelope::decode(bytes).map_err(|_| malformed())?;
    let manifest = v1::ActivationManifest::decode(envelope.payload.as_slice()).map_err(|_| malformed())?;
    let header = manifest.header.as_ref().ok_or_else(malformed)?;
    let installation = InstallationId::from_slice(&header.installation_id).map_err(|_| malformed())?;
    Ok(ActivationTerms::read(installation, &manifest).map_err(|_| malformed())?)
}

fn target_of_context(global: &Global, contexts: &Contexts, command: &Login) -> anyhow::Result<Target> {
    let (_, context) = contexts.select(global)?;
    let key = command
        .key
        .clone()
        .or(context.key)
        .ok_or(Fault::new(Reason::RequestInvalid, "which key? give --key FILE"))?;
    Ok(Target {
        url: command.url.clone().unwrap_or(context.url),
        pin: context.tls_ca_pin,
        installation: context.installation_id,
        manifest: None,
        key,
    })
}

async fn prove(
    connection: &mut Connection,
    target: &Target,
    signer: &Signer,
    manifest: Option<&[u8]>,
) -> Result<v1::LoginAnswer, Refusal> {
    let challenge = connection.admin.login_challenge(v1::LoginChallengeRequest {}).await?.into_inner();
    if challenge.installation_id != target.installation.as_bytes() {
        return Err(Refusal::new(Reason::HeaderInstallation, "the server is another installation"));
    }
    let exporter =
        connection.exporter().map_err(|error| Refusal::new(Reason::ServerUnreachable, error.to_string()))?;
    let operator_key = signer.public().to_vec();
    let proof = v1::LoginProof {
        installation_id: target.installation.to_vec(),
        operator_key: operator_key.clone(),
        nonce: challenge.nonce.clone(),
        exporter: exporter.to_vec(),
    };
    let signature = sign_possession(LOGIN_PROOF, &proof, signer);
    let nonce = challenge.nonce;
    let answered = match manifest {
        Some(manifest) => {
            let activation_manifest = manifest.to_vec();
            let request = v1::ActivateRequest { activation_manifest, operator_key, nonce, signature };
            connection.admin.activate(request).await
        }
        None => connection.admin.login(v1::LoginRequest { operator_key, nonce, signature }).await,
    };
    told(answered)
}

/// The chosen context, the one that already knows this installation, or one named after its host.
fn context_name(global: &Global, contexts: &Contexts, target: &Target) -> String {
    let known = contexts.contexts.iter().find(|(_, context)| context.installation_id == target.installation);
    let host = target.url.trim_start_matches("https://").trim_end_matches('/').to_owned();
    global.context.clone().or_else(|| known.map(|(name, _)| name.clone())).unwrap_or(host)
}
