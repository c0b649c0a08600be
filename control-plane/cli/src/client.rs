//! One TLS connection to the control plane, with its exporter, and the calls over it.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::EXPORTER_LABEL;
use rap_rpc::dial::{ControlUrl, Dial, ExporterSlot};
use rap_rpc::v1::admin_client::AdminClient;
use rap_rpc::v1::adoption_client::AdoptionClient;
use rap_rpc::v1::audit_client::AuditClient;
use rap_rpc::v1::authority_client::AuthorityClient;
use rap_rpc::v1::break_glass_client::BreakGlassClient;
use rap_rpc::v1::grants_client::GrantsClient;
use rap_rpc::v1::membership_client::MembershipClient;
use rap_rpc::{Refusal, RequestKey};
use rap_runtime::exit::Fault;
use rap_runtime::{Clock, tls};
use rap_types::{Digest, Reason};
use rap_wire::v1;
use tonic::transport::Channel;

use crate::args::Global;
use crate::contexts::{Context, Contexts};
use crate::output::{clean, complain};

/// One call with the session attached; the value is the answer:
/// `ask!(connection.admin.status(v1::StatusRequest {}))`.
macro_rules! ask {
    ($connection:ident.$service:ident.$method:ident($message:expr)) => {{
        let request =
            $connection.request(concat!(stringify!($service), ".", stringify!($method)), $message)?;
        $crate::client::told($connection.$service.$method(request).await)?
    }};
}
pub(crate) use ask;

/// The answer of a call. Its warning, if it has one, is shown.
pub(crate) fn told<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Refusal> {
    let answer = answer.map_err(Refusal::from)?;
    if let Some(line) = rap_rpc::warning(&answer) {
        complain(&line);
    }
    Ok(answer.into_inner())
}

/// A control plane that was reached and is the pinned one.
pub(crate) struct Connection {
    pub(crate) admin: AdminClient<Channel>,
    pub(crate) adoption: AdoptionClient<Channel>,
    pub(crate) audit: AuditClient<Channel>,
    pub(crate) grants: GrantsClient<Channel>,
    pub(crate) authority: AuthorityClient<Channel>,
    pub(crate) membership: MembershipClient<Channel>,
    pub(crate) break_glass: BreakGlassClient<Channel>,
    exporter: ExporterSlot,
    session: Option<String>,
    calls: Calls,
    /// The cluster that was named on the command line, or the context's.
    cluster: Option<String>,
}

impl Connection {
    /// Connects to `url` and requires the TLS CA with this SPKI hash.
    pub(crate) async fn open(url: &str, pin: Digest, timeout: Duration) -> anyhow::Result<Self> {
        let config = tls::operator_client(tls::Pins::one(pin), Arc::new(Clock::new()))?;
        let exporter = ExporterSlot::new(EXPORTER_LABEL);
        let slot = exporter.clone();
        let mut dial = Dial::new(config, tls::ALPN_OPERATOR, timeout);
        dial.call_timeout = Some(timeout);
        let channel = dial.open(&ControlUrl::parse(url)?, move |connection| slot.fill(connection)).await?;
        let grants = GrantsClient::new(channel.clone()).max_decoding_message_size(4 * 1024 * 1024);
        let adoption = AdoptionClient::new(channel.clone());
        let authority = AuthorityClient::new(channel.clone());
        let membership = MembershipClient::new(channel.clone());
        let break_glass = BreakGlassClient::new(channel.clone());
        let admin = AdminClient::new(channel.clone()).max_decoding_message_size(64 * 1024 * 1024);
        let audit = AuditClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
        Ok(Self {
            admin,
            adoption,
            audit,
            authority,
            break_glass,
            grants,
            membership,
            exporter,
            session: None,
            calls: Calls::default(),
            cluster: None,
        })
    }

    /// Connects as the selected context's operator.
    pub(crate) async fn of_context(global: &Global) -> anyhow::Result<Self> {
        let (_, context) = Contexts::load(global)?.select(global)?;
        let mut connection = Self::with_session(&context, global.timeout).await?;
        connection.cluster = global.cluster.clone().or(context.cluster);
        connection.calls.key = global.request_key;
        Ok(connection)
    }

    /// The cluster that a command is about: the one that its operand or `--cluster` names, the context's, or the only
    /// one of the installation.
    ///
    /// # Errors
    /// `resource.not_found` if there is no cluster, `request.invalid` if there are several.
    pub(crate) async fn cluster(&mut self, named: Option<String>) -> anyhow::Result<String> {
        if let Some(cluster) = named.or_else(|| self.cluster.clone()) {
            return Ok(cluster);
        }
        let connection = self;
        let clusters = ask!(connection.admin.cluster_list(v1::ClusterListRequest {})).clusters;
        Ok(only(clusters.into_iter().map(|cluster| cluster.name).collect())?)
    }

    async fn with_session(context: &Context, timeout: Duration) -> anyhow::Result<Self> {
        let session = context
            .session
            .as_ref()
            .ok_or(Fault::new(Reason::SessionMissing, "not logged in; run: rapctl login"))?;
        if session.expires_at_ms <= Clock::new().now().wall.0 {
            return Err(Fault::new(Reason::SessionExpired, "the session ended; run: rapctl login").into());
        }
        let mut connection = Self::open(&context.url, context.tls_ca_pin, timeout).await?;
        connection.session = Some(session.secret.clone());
        Ok(connection)
    }

    /// The TLS exporter of this connection, for a channel-bound proof.
    pub(crate) fn exporter(&self) -> anyhow::Result<[u8; 32]> {
        Ok(self.exporter.read()?)
    }

    /// A request of this method with the session attached, and with a key.
    pub(crate) fn request<T>(
        &mut self,
        method: &'static str,
        message: T,
    ) -> anyhow::Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        if let Some(key) = self.calls.key_of(method) {
            key.attach(&mut request);
        }
        if let Some(session) = &self.session {
            let mut value: tonic::metadata::MetadataValue<_> =
                format!("Bearer {session}").parse().map_err(|_| {
                    Fault::new(Reason::ConfigInvalid, "the stored session is damaged; run: rapctl login")
                })?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// The keys of the calls of one command. The same command with the same key gives every call the key that it had.
#[derive(Default)]
struct Calls {
    key: Option<RequestKey>,
    made: Vec<&'static str>,
}

impl Calls {
    fn key_of(&mut self, method: &'static str) -> Option<RequestKey> {
        let key = self.key?;
        let before = self.made.iter().filter(|made| **made == method).count() as u64;
        self.made.push(method);
        let digest = Digest::of(&[&key.0, method.as_bytes(), &before.to_be_bytes()]);
        digest.as_bytes().first_chunk().copied().map(RequestKey)
    }
}

/// The only one of these clusters.
fn only(mut names: Vec<String>) -> Result<String, Fault> {
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => {
            let text = "there is no cluster yet; make one with: rapctl cluster create NAME";
            Err(Fault::new(Reason::ResourceNotFound, text))
        }
        (Some(last), false) => {
            names.push(last);
            let names = clean(&names.join(", "));
            let text = format!(
                "several clusters ({names}): name one with --cluster, or for this context with: \
                 rapctl context use NAME --default-cluster CLUSTER"
            );
            Err(Fault::new(Reason::RequestInvalid, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_command_with_the_same_key_gives_its_calls_the_same_keys() {
        let keys = |key, methods: &[&'static str]| {
            let mut calls = Calls { key, made: Vec::new() };
            methods.iter().map(|method| calls.key_of(method)).collect::<Vec<_>>()
        };
        let key = Some(RequestKey([7; 16]));
        let made = keys(key, &["admin.token_create", "admin.token_create", "admin.token_revoke"]);
        assert!(made[0].is_some() && made[0] != made[1] && made[0] != made[2]);
        // What else is asked in between changes none of them.
        assert_eq!(keys(key, &["admin.cluster_list", "admin.token_create"])[1], made[0]);
        assert_ne!(keys(Some(RequestKey([8; 16])), &["admin.token_create"])[0], made[0]);
        assert_eq!(keys(None, &["admin.token_create"]), [None]);
    }

    #[test]
    fn the_only_cluster_needs_no_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(only(names(&["prod"])).unwrap(), "prod");
        assert!(only(names(&[])).unwrap_err().message.contains("rapctl cluster create"));
        let several = only(names(&["prod", "test"])).unwrap_err();
        assert!(several.message.contains("prod, test"), "{}", several.message);
    }
}
