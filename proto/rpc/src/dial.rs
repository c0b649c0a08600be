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
use tokio::task::JoinSet;
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
        let addresses = tokio::net::lookup_host((url.host.as_str(), url.port)).await?;
        let stream = race(addresses, self.source).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(tls::any_server_name(), stream).await?;
        tls::require_alpn(stream.get_ref().1, self.protocol).map_err(io::Error::other)?;
        Ok(stream)
    }
}

/// Connects to the first of these addresses that answers. The families take turns; the next address is tried when one
/// fails, or after [`HEAD_START`]: one that does not answer uses up no more of the deadline.
async fn race(addresses: impl Iterator<Item = SocketAddr>, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let usable =
        addresses.filter(|address| source.is_none_or(|source| source.is_ipv4() == address.is_ipv4()));
    let mut waiting = by_turns(usable).into_iter().peekable();
    let mut racing = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of the source's family");
    loop {
        match waiting.next() {
            Some(address) => drop(racing.spawn(connect(address, source))),
            None if racing.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(ended) = racing.join_next() => match ended.map_err(io::Error::other).flatten() {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(HEAD_START), if waiting.peek().is_some() => {}
        }
    }
}

/// The order of the resolver, with the families by turns.
fn by_turns(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut counts = [0_usize; 2];
    let mut ranked: Vec<(usize, SocketAddr)> = Vec::new();
    for address in addresses {
        let count = &mut counts[usize::from(address.is_ipv4())];
        ranked.push((*count, address));
        *count += 1;
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, address)| address).collect()
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
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

const HEAD_START: Duration = Duration::from_millis(250);

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

    #[test]
    fn the_families_of_addresses_take_turns_in_the_order_of_the_resolver() {
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"].map(|text| text.parse().unwrap());
        let ordered: Vec<String> = by_turns(addresses.into_iter()).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_does_not_use_up_the_deadline() {
        // A full queue of connections: the kernel drops every further one without a word.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let dead = socket.listen(1).unwrap();
        let address = dead.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            held.push(stream);
        }
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let racing = race([address, live.local_addr().unwrap()].into_iter(), None);
        // Far less than the kernel takes to give up an address.
        let stream = tokio::time::timeout(Duration::from_secs(10), racing).await.expect("in time").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live.local_addr().unwrap());
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
