//! Product Root: make the key, sign an activation. Offline.

use std::path::Path;

use rap_contract::{Expectation, PublicKey, open_activation_request, sign_activation};
use rap_runtime::output::clean;
use rap_runtime::{Clock, Fault};
use rap_types::{ClusterId, KeyId, Reason};
use rap_wire::v1;
use serde_json::json;

use crate::args::{Global, Protect, Root};
use crate::output::{Answer, confirm};
use crate::{files, key_store};

/// Purpose of root key files.
const PRODUCT_ROOT: &str = "product-root";
/// Purpose of first owner key files.
const OWNER: &str = "owner";

pub(crate) fn run(global: &Global, command: Root) -> anyhow::Result<()> {
    match command {
        Root::Init { out, protect } => init(global, &out, &protect),
        Root::SignActivation { request, owner, key, ttl, protect } => {
            let manifest = request.with_extension("manifest");
            let owner_key = request.with_extension("owner.key");
            if owner.is_empty() || owner.len() > 256 || owner.chars().any(char::is_control) {
                let message = "--owner has 1 to 256 bytes and no control characters";
                return Err(Fault::new(Reason::RequestInvalid, message).into());
            }
            files::absent(&manifest)?;
            files::absent(&owner_key)?;
            let bytes = files::read(&request, 16 * 1024)?;
            let now = Clock::new().now().wall;
            let expect =
                Expectation { cluster: Some(ClusterId::ZERO), now: Some(now), ..Expectation::default() };
            let request = open_activation_request(&bytes, &expect)
                .map_err(|reject| files::rejected(&request, reject))?;
            let authority = KeyId::of(&request.installation_authority_key);
            let url = request.control_urls.first().map_or("no control URL", String::as_str);
            eprintln!("installation authority  {authority}\nwords                   {}", authority.words());
            eprintln!("control URL             {}", clean(url));
            confirm(global, "Does the installation show the same fingerprint, and is it the one you mean?")?;
            let root = key_store::open(&key, &protect)?;
            let owner_signer = key_store::generate();
            let named = (owner.as_str(), &owner_signer.public());
            let document = sign_activation(&request, &root, named, now, Some(now.plus(ttl)));
            key_store::create(&owner_key, OWNER, &owner_signer, &protect)?;
            files::create_new(&manifest, &document, 0o644)?;
            print_signed(global, &request, &owner, owner_signer.public(), &manifest, &owner_key)
        }
    }
}

fn init(global: &Global, out: &Path, protect: &Protect) -> anyhow::Result<()> {
    let pair = key_store::Pair::create(out, PRODUCT_ROOT, protect)?;
    let next = format!("rap-control-plane init --listen HOST:8443 --root-key {}", pair.public.display());
    pair.answer("rap.root.v1", " (keep offline)", "").next(next).print(global)
}

fn print_signed(
    global: &Global,
    request: &v1::ActivationRequest,
    owner: &str,
    owner_key: PublicKey,
    manifest: &Path,
    key_file: &Path,
) -> anyhow::Result<()> {
    let authority = KeyId::of(&request.installation_authority_key);
    let url = request.control_urls.first().cloned().unwrap_or_else(|| "https://HOST:8443".into());
    let body = json!({
        "manifest": manifest, "owner_key_file": key_file, "owner": owner,
        "owner_fingerprint": owner_key.id(), "installation_authority": authority,
        "tls_ca_spki_sha256": hex::encode(&request.tls_ca_spki_sha256), "control_urls": request.control_urls,
    });
    Answer::new("rap.activation.v1", body)
        .properties([
            ("manifest", manifest.display().to_string()),
            ("owner key", key_file.display().to_string()),
            ("owner", owner.to_owned()),
            ("installation authority", authority.to_string()),
            ("words", authority.words()),
            ("control URL", url.clone()),
        ])
        .next(format!("rapctl login {url} --activate {}", manifest.display()))
        .print(global)
}
