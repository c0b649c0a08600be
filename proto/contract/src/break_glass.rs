//! Break-glass grants: a short exception, signed by the cluster authority or by the Product Root, that a
//! node verifies with nothing but its pins.
//!
//! Owns the closed list of what a grant can permit, and its cap of 24 hours. Refuses to own replay protection:
//! whoever applies a grant records it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;
use rap_types::sense::{self, Loopback};
use rap_types::{ClusterId, Digest, InstallationId, NodeId, Reason, Wall};
use rap_wire::v1;
use v1::break_glass_grant::Permit;

use crate::chunk::check_peer_record;
use crate::{
    Audience, Envelope, Expectation, HeaderTerms, KeySet, KeyState, PublicKey, Reject, Signer, Verified,
    sign, verify,
};

/// First part of the text form.
const BREAK_GLASS_PREFIX: &str = "rapb1";
/// Longest life of a grant.
const BREAK_GLASS_CAP: Duration = Duration::from_secs(24 * 3600);

const TEXT_CAP: usize = 64 * 1024;
const ROOT_KEYS_CAP: usize = 8;
const REASON_CAP: usize = 256;

/// A grant as it is carried: the envelope, and for one of the Product Root the keys that signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlassText {
    grant: Vec<u8>,
    root_keys: Vec<PublicKey>,
}

impl BreakGlassText {
    /// Puts a file together. Without root keys it is the cluster authority's.
    pub const fn new(grant: Vec<u8>, root_keys: Vec<PublicKey>) -> Self {
        Self { grant, root_keys }
    }

    /// Reads the text form; surrounding white space is ignored.
    ///
    /// # Errors
    /// `break_glass.malformed`, `key.invalid`.
    pub fn parse(text: &str) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::BreakGlassMalformed, what);
        let text = text.trim();
        if text.len() > TEXT_CAP {
            return Err(malformed("longer than 64 KiB"));
        }
        let encoded = text.strip_prefix(BREAK_GLASS_PREFIX).and_then(|rest| rest.strip_prefix('.'));
        let encoded = encoded.ok_or(malformed("a grant is rapb1.<file>"))?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed("not base64url"))?;
        Self::decode(&bytes)
    }

    /// Reads the encoded form; there is one encoding only.
    ///
    /// # Errors
    /// `break_glass.malformed`, `key.invalid`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::BreakGlassMalformed, what);
        if bytes.len() > TEXT_CAP {
            return Err(malformed("longer than 64 KiB"));
        }
        let file = v1::BreakGlassFile::decode(bytes).map_err(|_| malformed("does not decode"))?;
        if file.encode_to_vec() != bytes || file.root_keys.len() > ROOT_KEYS_CAP {
            return Err(malformed("not the one encoding"));
        }
        let root_keys: Vec<PublicKey> =
            file.root_keys.iter().map(|key| PublicKey::from_slice(key)).collect::<Result<_, _>>()?;
        Ok(Self { grant: file.grant, root_keys })
    }

    /// Names the grant without believing it: SHA-256 over its signing bytes.
    ///
    /// # Errors
    /// `envelope.*`.
    pub fn digest(&self) -> Result<Digest, Reject> {
        let envelope = Envelope::decode(&self.grant, <v1::BreakGlassGrant as crate::Document>::SIZE_CAP)?;
        Ok(Digest::of(&[&envelope.signing_bytes()]))
    }

    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let root_keys = self.root_keys.iter().map(|key| key.to_vec()).collect();
        v1::BreakGlassFile { grant: self.grant.clone(), root_keys }.encode_to_vec()
    }

    /// The text form. Not secret: it admits nothing that its signature does not name.
    pub fn text(&self) -> String {
        format!("{BREAK_GLASS_PREFIX}.{}", URL_SAFE_NO_PAD.encode(self.encode()))
    }

    /// Verifies the grant against the pins of a membership.
    ///
    /// A grant of the Product Root counts if its keys are those, all of them, that signed the pinned
    /// activation manifest: the manifest came with the bootstrap contract.
    ///
    /// # Errors
    /// Those of verification; `header.audience`, `break_glass.lifetime`, `payload.malformed`.
    pub fn open(&self, known: &BreakGlassExpectation<'_>) -> Result<VerifiedBreakGlass, Reject> {
        let (keys, by) = if self.root_keys.is_empty() {
            (KeySet::of::<v1::BreakGlassGrant>(known.authority), BreakGlassSigner::ClusterAuthority)
        } else {
            self.check_root(known)?;
            (self.root_set::<v1::BreakGlassGrant>(), BreakGlassSigner::ProductRoot)
        };
        let audience: Vec<Audience> = match known.node {
            Some(node) => vec![Audience::Cluster(known.cluster), Audience::Node(node)],
            None => Vec::new(),
        };
        let within = Expectation::within(known.installation, known.cluster, known.features);
        let expect = Expectation { now: known.now, ..within.for_one_of(&audience) };
        let grant: Verified<v1::BreakGlassGrant> = verify(&self.grant, &keys, &expect)?;
        let expires_at = check_terms(&grant)?;
        Ok(VerifiedBreakGlass { grant, expires_at, by, file: self.clone() })
    }

    fn check_root(&self, known: &BreakGlassExpectation<'_>) -> Result<(), Reject> {
        let expect = Expectation::within(known.installation, ClusterId::ZERO, known.features);
        verify::<v1::ActivationManifest>(
            known.activation_manifest,
            &self.root_set::<v1::ActivationManifest>(),
            &expect,
        )
        .map(drop)
    }

    fn root_set<T: crate::Document>(&self) -> KeySet {
        let keys = self.root_keys.iter();
        let set = keys.fold(KeySet::new(), |set, key| set.with::<T>(*key, KeyState::Active));
        set.with_threshold(self.root_keys.len())
    }
}

/// What is asked of a grant.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakGlassOrder {
    /// Installation of the cluster.
    pub installation: InstallationId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node it is for; `None` for every node of the cluster.
    pub node: Option<NodeId>,
    /// Why.
    pub reason: String,
    /// How long it lives.
    pub ttl: Duration,
    /// What it permits.
    pub permit: Permit,
    /// Fresh random bytes.
    pub nonce: [u8; 32],
    /// Critical features of the installation.
    pub critical: Vec<String>,
}

/// Signs a grant. The result has passed the checks of a verifier.
///
/// # Errors
/// `request.invalid` for what no verifier would accept.
pub fn sign_break_glass(
    order: &BreakGlassOrder,
    signers: &[&Signer],
    by: BreakGlassSigner,
    now: Wall,
) -> Result<(BreakGlassText, VerifiedBreakGlass), Reject> {
    let invalid = |what| Reject::new(Reason::RequestInvalid, what);
    let first = signers.first().ok_or(invalid("a grant needs a key"))?;
    if order.node == Some(NodeId::ZERO) {
        return Err(invalid("no node has the id zero; leave it out for every node"));
    }
    let header = HeaderTerms {
        audience: order.node.map_or(Audience::Cluster(order.cluster), Audience::Node),
        expires_at: Some(now.plus(order.ttl)),
        critical: order.critical.clone(),
        ..HeaderTerms::of_cluster(order.installation, order.cluster, first.id(), now)
    };
    let grant = v1::BreakGlassGrant {
        header: Some(header.to_wire()),
        nonce: order.nonce.to_vec(),
        reason: order.reason.clone(),
        permit: Some(order.permit.clone()),
    };
    let envelope = sign(&grant, signers);
    let keys = signers.iter().map(|signer| signer.public());
    let root_keys: Vec<PublicKey> =
        if by == BreakGlassSigner::ProductRoot { keys.collect() } else { Vec::new() };
    let set = signers.iter().fold(KeySet::new(), |set, signer| {
        set.with::<v1::BreakGlassGrant>(signer.public(), KeyState::Active)
    });
    let features: Vec<&str> = order.critical.iter().map(String::as_str).collect();
    let expect = Expectation { now: Some(now), features: &features, ..Expectation::default() };
    let grant: Verified<v1::BreakGlassGrant> =
        verify(&envelope, &set.with_threshold(signers.len()), &expect)?;
    let expires_at = check_terms(&grant).map_err(|reject| invalid(reject.what))?;
    let file = BreakGlassText::new(envelope, root_keys);
    Ok((file.clone(), VerifiedBreakGlass { grant, expires_at, by, file }))
}

/// What a verifier of grants has pinned.
#[derive(Debug, Clone, Copy)]
pub struct BreakGlassExpectation<'a> {
    /// Installation of the membership.
    pub installation: InstallationId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// This node; `None` accepts grants for any node of the cluster.
    pub node: Option<NodeId>,
    /// The cluster's active authority.
    pub authority: PublicKey,
    /// Encoded activation manifest that came with the bootstrap contract.
    pub activation_manifest: &'a [u8],
    /// Time of first acceptance; `None` when verifying again what was applied.
    pub now: Option<Wall>,
    /// Critical features known.
    pub features: &'a [&'a str],
}

/// Who signed a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakGlassSigner {
    /// The cluster authority.
    ClusterAuthority,
    /// The Product Root.
    ProductRoot,
}

impl BreakGlassSigner {
    /// The word in status and audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterAuthority => "cluster-authority",
            Self::ProductRoot => "product-root",
        }
    }
}

/// A grant whose signature, scope and terms hold.
#[derive(Debug, Clone)]
pub struct VerifiedBreakGlass {
    grant: Verified<v1::BreakGlassGrant>,
    expires_at: Wall,
    by: BreakGlassSigner,
    file: BreakGlassText,
}

impl VerifiedBreakGlass {
    /// Names it: SHA-256 over the signing bytes.
    pub fn digest(&self) -> Digest {
        self.grant.digest()
    }

    /// Used once.
    pub fn nonce(&self) -> &[u8] {
        &self.grant.nonce
    }

    /// When it was signed.
    pub fn issued_at(&self) -> Wall {
        self.grant.header().issued_at
    }

    /// When it ends by itself.
    pub const fn expires_at(&self) -> Wall {
        self.expires_at
    }

    /// Whom it is for.
    pub fn audience(&self) -> Audience {
        self.grant.header().audience
    }

    /// Who signed it.
    pub const fn by(&self) -> BreakGlassSigner {
        self.by
    }

    /// Why it was given.
    pub fn reason(&self) -> &str {
        &self.grant.reason
    }

    /// Until when degraded mode lasts, if it says so.
    pub fn extends_degraded(&self) -> Option<Wall> {
        match &self.grant.permit {
            Some(Permit::ExtendDegraded(extend)) => Some(Wall(extend.until_ms)),
            _ => None,
        }
    }

    /// The peer it admits, if it admits one.
    pub fn peer(&self) -> Option<&v1::PeerRecord> {
        match &self.grant.permit {
            Some(Permit::PermitPeer(permit)) => permit.peer.as_ref(),
            _ => None,
        }
    }

    /// The word for what it permits.
    pub fn permit(&self) -> &'static str {
        if self.peer().is_some() { "permit_peer" } else { "extend_degraded" }
    }

    /// The file it came in.
    pub const fn file(&self) -> &BreakGlassText {
        &self.file
    }
}

/// A grant is carried by hand to hosts that nobody reaches: what no host can use is found where it is signed.
fn check_sense(peer: &v1::PeerRecord) -> Result<(), &'static str> {
    sense::wireguard_key(&peer.wireguard_public_key)?;
    sense::label(&peer.name)?;
    if peer.key_generation == 0 {
        return Err("key generations begin with 1");
    }
    // Whether the own host counts is told by the node that dials.
    let endpoints = peer.link_endpoints.iter().chain(&peer.wireguard_endpoints);
    endpoints.into_iter().try_for_each(|endpoint| sense::endpoint(endpoint, Loopback::Allowed))
}

fn check_terms(grant: &Verified<v1::BreakGlassGrant>) -> Result<Wall, Reject> {
    let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
    let header = grant.header();
    let expires_at = header.expires_at.ok_or(Reject::new(Reason::HeaderMalformed, "a grant expires"))?;
    if expires_at > header.issued_at.plus(BREAK_GLASS_CAP) {
        return Err(Reject::new(Reason::BreakGlassLifetime, "expires_at"));
    }
    if !matches!(header.audience, Audience::Cluster(cluster) if cluster == header.cluster)
        && !matches!(header.audience, Audience::Node(_))
    {
        return Err(Reject::new(Reason::HeaderAudience, "audience"));
    }
    if grant.nonce.len() != 32 {
        return Err(malformed("nonce"));
    }
    let reason = &grant.reason;
    if reason.is_empty() || reason.len() > REASON_CAP || reason.chars().any(char::is_control) {
        return Err(malformed("reason"));
    }
    match &grant.permit {
        Some(Permit::ExtendDegraded(extend)) => {
            let until = Wall(extend.until_ms);
            if until <= header.issued_at || until > expires_at {
                return Err(Reject::new(Reason::BreakGlassLifetime, "until_ms"));
            }
        }
        Some(Permit::PermitPeer(permit)) => {
            let peer = permit.peer.as_ref().ok_or(malformed("peer"))?;
            check_peer_record(peer).map_err(|reject| malformed(reject.what))?;
            check_sense(peer).map_err(malformed)?;
        }
        None => return Err(malformed("permits nothing that is known")),
    }
    Ok(expires_at)
}
