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
use rap_runtime::exit::Fault;
use rap_runtime::{Clock, tls};
use rap_types::{Digest, Reason};
use tonic::transport::Channel;

use crate::args::Global;
use crate::contexts::{Context, Contexts};

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
        })
    }

    /// Connects as the selected context's operator.
    pub(crate) async fn of_context(global: &Global) -> anyhow::Result<Self> {
        let (_, context) = Contexts::load(global)?.select(global)?;
        Self::with_session(&context, global.timeout).await
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

    /// A request with the session attached.
    pub(crate) fn request<T>(&self, message: T) -> anyhow::Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
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

/// One call with the session attached; the value is the answer:
/// `ask!(connection.admin.status(v1::StatusRequest {}))`.
macro_rules! ask {
    ($connection:ident.$service:ident.$method:ident($message:expr)) => {{
        let request = $connection.request($message)?;
        $connection.$service.$method(request).await.map_err(rap_rpc::Refusal::from)?.into_inner()
    }};
}
pub(crate) use ask;
