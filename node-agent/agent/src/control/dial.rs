//! Connections to the control plane: our TLS below, gRPC above, one connection per channel.
//!
//! Owns URLs, dialling and the exporter. Refuses to own retries.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rap_contract::EXPORTER_LABEL;
use rap_runtime::tls::{self, Pins};
use rap_runtime::{Fault, Refusal};
use rap_types::{Digest, Reason, Wall};
use rap_wire::v1;
use rap_wire::v1::enrollment_client::EnrollmentClient;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// A control URL that can be dialled: `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlUrl {
    text: String,
    host: String,
    port: u16,
}

impl ControlUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// `request.invalid`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let invalid = || Fault::new(Reason::RequestInvalid, "a control URL is https://HOST:PORT");
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        if uri.scheme_str() != Some("https") || uri.path().len() > 1 || uri.query().is_some() {
            return Err(invalid());
        }
        let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']).to_owned();
        Ok(Self { text: text.to_owned(), host, port: uri.port_u16().unwrap_or(DEFAULT_PORT) })
    }

    /// The URL as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Opens one channel under `config`; `seen` gets every finished handshake.
    pub(super) async fn open(
        &self,
        config: Arc<ClientConfig>,
        protocol: &'static [u8],
        timeout: Duration,
        seen: impl Fn(&rustls::ClientConnection) -> io::Result<()> + Clone + Send + Sync + 'static,
    ) -> Result<Channel, Fault> {
        let (host, port) = (self.host.clone(), self.port);
        let connector = tower::service_fn(move |_: Uri| {
            let (host, config, seen) = (host.clone(), config.clone(), seen.clone());
            async move {
                let stream = handshake(&host, port, config, protocol).await?;
                seen(stream.get_ref().1)?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        // TLS is ours, below; the URI given here only fills the request's authority.
        let endpoint = Endpoint::from_static("http://control")
            .connect_timeout(timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let connected = tokio::time::timeout(timeout, endpoint.connect_with_connector(connector)).await;
        let failed = |reason, text: &str| Fault::new(reason, format!("{}: {text}", self.text));
        match connected {
            Err(_) => Err(failed(Reason::RequestTimeout, "no connection in time")),
            Ok(Err(error)) => {
                let refusal = Refusal::from_transport(&error);
                Err(failed(refusal.reason, &refusal.message))
            }
            Ok(Ok(channel)) => Ok(channel),
        }
    }
}

async fn handshake(
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
    protocol: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(tls::any_server_name(), stream).await?;
    tls::require_alpn(stream.get_ref().1, protocol).map_err(io::Error::other)?;
    Ok(stream)
}

/// A connection of an applicant, with the challenge that lives in it.
pub struct EnrollmentLine {
    client: EnrollmentClient<Channel>,
    exporter: [u8; 32],
    nonce: Vec<u8>,
    server_time: Wall,
    timeout: Duration,
}

impl EnrollmentLine {
    /// Connects to the pinned server and asks for a challenge.
    ///
    /// # Errors
    /// Those of transport, TLS and call.
    pub async fn open(
        url: &ControlUrl,
        pin: Digest,
        time: tls::Time,
        timeout: Duration,
    ) -> Result<Self, Fault> {
        let config = tls::operator_client(Pins::one(pin), time)
            .map_err(|error| Fault::new(Reason::ServerUnreachable, error.to_string()))?;
        let slot: Arc<Mutex<Option<[u8; 32]>>> = Arc::default();
        let filled = slot.clone();
        let channel = url
            .open(config, tls::ALPN_OPERATOR, timeout, move |connection| {
                let exporter = tls::exporter(connection, EXPORTER_LABEL).map_err(io::Error::other)?;
                *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(exporter);
                Ok(())
            })
            .await?;
        let mut client = EnrollmentClient::new(channel)
            .max_decoding_message_size(MESSAGE_CAP)
            .max_encoding_message_size(MESSAGE_CAP);
        let challenge = called(timeout, client.challenge(v1::EnrollmentChallengeRequest {})).await?;
        let exporter = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let exporter =
            exporter.ok_or(Fault::new(Reason::ServerUnreachable, "connection without exporter"))?;
        let server_time = Wall(challenge.server_time_ms);
        Ok(Self { client, exporter, nonce: challenge.nonce, server_time, timeout })
    }

    /// Nonce, exporter and server time of this connection.
    pub fn challenge(&self) -> (Vec<u8>, [u8; 32], Wall) {
        (self.nonce.clone(), self.exporter, self.server_time)
    }

    /// Asks to join.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn join(&mut self, request: v1::JoinRequest) -> Result<v1::JoinAnswer, Fault> {
        called(self.timeout, self.client.join(request)).await
    }

    /// Asks what became of the request.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn bootstrap(&mut self, request: v1::BootstrapRequest) -> Result<v1::BootstrapAnswer, Fault> {
        called(self.timeout, self.client.bootstrap(request)).await
    }

    /// Asks for a leaf.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn certificate(
        &mut self,
        request: v1::CertificateRequest,
    ) -> Result<v1::CertificateAnswer, Fault> {
        called(self.timeout, self.client.certificate(request)).await
    }
}

async fn called<T>(
    timeout: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(timeout, call).await {
        Err(_) => Err(Fault::new(Reason::RequestTimeout, "no answer in time")),
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            let refusal = Refusal::from(&status);
            Err(Fault::new(refusal.reason, refusal.message))
        }
    }
}

const DEFAULT_PORT: u16 = 8443;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const MESSAGE_CAP: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_urls_of_a_server_are_dialled() {
        let url = ControlUrl::parse("https://control.example:9443").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("control.example", 9443));
        assert_eq!(ControlUrl::parse("https://[::1]").unwrap().host, "::1");
        assert_eq!(ControlUrl::parse("https://a/").unwrap().port, DEFAULT_PORT);
        for bad in ["http://a", "https://a/x", "https://a?x=1", "a:8443", ""] {
            assert_eq!(ControlUrl::parse(bad).unwrap_err().reason, Reason::RequestInvalid, "{bad}");
        }
    }
}
