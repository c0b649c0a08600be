//! gRPC to a control plane: TLS of the product below, a tonic channel above, one connection per channel.
//!
//! Owns URLs, sockets and handshakes. Refuses to own retries, calls and the proofs that are bound to a
//! connection: those are the caller's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rap_types::Reason;
use rustls::{ClientConfig, ClientConnection};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use rap_runtime::{Fault, tls};

use crate::Refusal;

/// A control URL that can be dialled: `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlUrl {
    text: String,
    host: String,
    port: u16,
}

/// How to dial.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Whom to trust.
    pub tls: Arc<ClientConfig>,
    /// The protocol the server must choose.
    pub protocol: &'static [u8],
    /// Deadline of the connection: address, TCP, TLS, HTTP/2.
    pub timeout: Duration,
    /// Deadline of each call.
    pub call_timeout: Option<Duration>,
    /// Pings of an idle connection.
    pub keep_alive: Option<Duration>,
    /// Address to dial from; the system's choice without one.
    pub source: Option<IpAddr>,
}

impl Dial {
    /// Dials with this configuration, asks for this protocol and gives up after `timeout`.
    pub fn new(tls: Arc<ClientConfig>, protocol: &'static [u8], timeout: Duration) -> Self {
        Self { tls, protocol, timeout, call_timeout: None, keep_alive: None, source: None }
    }

    /// Opens one channel; `seen` gets every finished handshake and may still refuse the connection.
    ///
    /// # Errors
    /// `request.timeout`, and what kept TCP or TLS from coming up.
    pub async fn open(
        self,
        url: &ControlUrl,
        seen: impl Fn(&ClientConnection) -> io::Result<()> + Clone + Send + Sync + 'static,
    ) -> Result<Channel, Fault> {
        // TLS is ours, below; this URI only fills the requests' authority.
        let mut endpoint = Endpoint::from_static("http://control").connect_timeout(self.timeout);
        if let Some(timeout) = self.call_timeout {
            endpoint = endpoint.timeout(timeout);
        }
        if let Some(interval) = self.keep_alive {
            endpoint = endpoint
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(interval)
                .keep_alive_while_idle(true);
        }
        let (dial, address) = (self.clone(), url.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let (dial, address, seen) = (dial.clone(), address.clone(), seen.clone());
            async move {
                let stream = dial.handshake(&address).await?;
                seen(stream.get_ref().1)?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        let failed = |reason, text: &str| Fault::new(reason, format!("{url}: {text}"));
        match tokio::time::timeout(self.timeout, endpoint.connect_with_connector(connector)).await {
            Err(_) => Err(failed(Reason::RequestTimeout, "no connection in time")),
            Ok(Err(error)) => {
                let refusal = Refusal::from_transport(&error);
                Err(failed(refusal.reason, &refusal.message))
            }
            Ok(Ok(channel)) => Ok(channel),
        }
    }

    async fn handshake(&self, url: &ControlUrl) -> io::Result<TlsStream<TcpStream>> {
        let stream = match self.source {
            None => TcpStream::connect((url.host.as_str(), url.port)).await?,
            Some(source) => connect_from(source, url).await?,
        };
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(tls::any_server_name(), stream).await?;
        tls::require_alpn(stream.get_ref().1, self.protocol).map_err(io::Error::other)?;
        Ok(stream)
    }
}

async fn connect_from(source: IpAddr, url: &ControlUrl) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of the source's family");
    for address in tokio::net::lookup_host((url.host.as_str(), url.port)).await? {
        if address.is_ipv4() != source.is_ipv4() {
            continue;
        }
        let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(source, 0))?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl ControlUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// `request.invalid`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let invalid = || {
            let hint = match text.split_once("://") {
                Some(("http", rest)) => format!("; the control plane speaks TLS only: https://{rest}"),
                None if !text.is_empty() => format!("; did you mean https://{text}?"),
                Some(_) | None => String::new(),
            };
            Fault::new(Reason::RequestInvalid, format!("a control URL is https://HOST:PORT{hint}"))
        };
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let bare = uri.path().len() <= 1 && uri.query().is_none() && !text.contains('@');
        if uri.scheme_str() != Some("https") || !bare {
            return Err(invalid());
        }
        let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']).to_owned();
        Ok(Self { text: text.to_owned(), host, port: uri.port_u16().unwrap_or(DEFAULT_PORT) })
    }

    /// The URL of a server at an address.
    pub fn at(address: SocketAddr) -> Self {
        Self { text: format!("https://{address}"), host: address.ip().to_string(), port: address.port() }
    }

    /// Name or address, and port.
    pub fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The URL as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for ControlUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The TLS exporter of the connection that a channel has now.
#[derive(Debug, Clone)]
pub struct ExporterSlot {
    label: &'static str,
    exporter: Arc<Mutex<Option<[u8; 32]>>>,
}

impl ExporterSlot {
    /// An empty slot for exporters of this label.
    pub fn new(label: &'static str) -> Self {
        Self { label, exporter: Arc::default() }
    }

    /// Takes the exporter of a finished handshake; the newest connection's is kept.
    ///
    /// # Errors
    /// When TLS has none to give.
    pub fn fill(&self, connection: &ClientConnection) -> io::Result<()> {
        let exporter = tls::exporter(connection, self.label).map_err(io::Error::other)?;
        *self.exporter.lock().unwrap_or_else(PoisonError::into_inner) = Some(exporter);
        Ok(())
    }

    /// 32 bytes that only the two ends know.
    ///
    /// # Errors
    /// `server.unreachable` before the first handshake.
    pub fn read(&self) -> Result<[u8; 32], Fault> {
        let exporter = *self.exporter.lock().unwrap_or_else(PoisonError::into_inner);
        exporter.ok_or_else(|| Fault::new(Reason::ServerUnreachable, "connection without exporter"))
    }
}

const DEFAULT_PORT: u16 = 8443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_urls_of_a_server_are_dialled() {
        let url = ControlUrl::parse("https://control.example:9443").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("control.example", 9443));
        assert_eq!(ControlUrl::parse("https://[::1]").unwrap().host, "::1");
        assert_eq!(ControlUrl::parse("https://a/").unwrap().port, DEFAULT_PORT);
        for bad in ["http://a", "https://a/x", "https://a?x=1", "https://me@a", "a:8443", ""] {
            assert_eq!(ControlUrl::parse(bad).unwrap_err().reason, Reason::RequestInvalid, "{bad}");
        }
    }

    #[test]
    fn the_url_of_an_address_reads_back() {
        for address in ["127.0.0.1:9", "[::1]:8443"] {
            let url = ControlUrl::at(address.parse().unwrap());
            assert_eq!(url, ControlUrl::parse(url.as_str()).unwrap());
        }
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable_and_the_url_is_named() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let pins = tls::Pins::one(rap_types::Digest::of(&[b"ca"]));
        let config = tls::operator_client(pins, Arc::new(rap_runtime::Clock::new())).unwrap();
        let mut dial = Dial::new(config, tls::ALPN_OPERATOR, Duration::from_secs(5));
        dial.source = Some("127.0.0.9".parse().unwrap());
        let fault = dial.open(&ControlUrl::at(free), |_| Ok(())).await.unwrap_err();
        assert_eq!(fault.reason, Reason::ServerUnreachable);
        assert!(fault.message.starts_with(&format!("https://{free}: ")), "{}", fault.message);
    }
}
