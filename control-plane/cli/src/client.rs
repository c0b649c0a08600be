//! One TLS connection to the control plane, with its exporter, and the calls over it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rap_contract::EXPORTER_LABEL;
use rap_runtime::exit::Fault;
use rap_runtime::status::Refusal;
use rap_runtime::{Clock, tls};
use rap_types::{Digest, Reason};
use rap_wire::v1::admin_client::AdminClient;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::args::Global;
use crate::contexts::{Context, Contexts};

/// A control plane that was reached and is the pinned one.
pub(crate) struct Connection {
    pub(crate) admin: AdminClient<Channel>,
    exporter: Arc<Mutex<Option<[u8; 32]>>>,
    session: Option<String>,
}

impl Connection {
    /// Connects to `url` and requires the TLS CA with this SPKI hash.
    pub(crate) async fn open(url: &str, pin: Digest, timeout: Duration) -> anyhow::Result<Self> {
        let invalid = || Fault::new(Reason::RequestInvalid, "a control URL is https://HOST:PORT");
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let bare = uri.path().len() <= 1 && uri.query().is_none() && !url.contains('@');
        if uri.scheme_str() != Some("https") || !bare {
            return Err(invalid().into());
        }
        let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(8443);
        let config = tls::operator_client(tls::Pins::one(pin), Arc::new(Clock::new()))?;
        let exporter = Arc::new(Mutex::new(None));
        let slot = exporter.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (host, config, slot) = (host.clone(), config.clone(), slot.clone());
            async move { dial(&host, port, config, &slot).await }
        });
        // The scheme stays http: TLS is ours, below.
        let endpoint = Endpoint::from_shared(format!("http://{}", uri.authority().ok_or_else(invalid)?))?
            .connect_timeout(timeout)
            .timeout(timeout);
        let channel = tokio::time::timeout(timeout, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| Fault::new(Reason::RequestTimeout, format!("{url}: no connection in time")))?
            .map_err(|error| {
                let refusal = Refusal::from_transport(&error);
                Fault::new(refusal.reason, format!("{url}: {}", refusal.message))
            })?;
        let admin = AdminClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
        Ok(Self { admin, exporter, session: None })
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
        let exporter = self.exporter.lock().ok().and_then(|exporter| *exporter);
        exporter.ok_or_else(|| anyhow::anyhow!("connection without exporter"))
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

async fn dial(
    host: &str,
    port: u16,
    config: Arc<rustls::ClientConfig>,
    slot: &Mutex<Option<[u8; 32]>>,
) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(tls::any_server_name(), stream).await?;
    let connection = stream.get_ref().1;
    tls::require_alpn(connection, tls::ALPN_OPERATOR).map_err(std::io::Error::other)?;
    let exporter = tls::exporter(connection, EXPORTER_LABEL).map_err(std::io::Error::other)?;
    if let Ok(mut slot) = slot.lock() {
        *slot = Some(exporter);
    }
    Ok(TokioIo::new(stream))
}
