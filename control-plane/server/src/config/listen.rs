//! Where a control plane listens: an address, or every address of a name.
//!
//! Owns the meaning of `--listen`, and the one look-up that it needs. Refuses to bind (`tls/listeners`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::failure::Failure;
use rap_types::Reason;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// At this address. `[::]` takes IPv4, too.
    At(SocketAddr),
    /// At every address that this name has on this host.
    Name(String, u16),
}

impl Listen {
    /// Reads `HOST:PORT`; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::At(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let is_name = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        };
        let port = port.parse().ok().filter(|_| is_name(host))?;
        Some(Self::Name(host.to_owned(), port))
    }

    /// The port; 0 for any.
    pub fn port(&self) -> u16 {
        match self {
            Self::At(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }

    /// True if only this host or its private networks can reach it, as far as the text tells.
    pub(crate) fn is_private(&self) -> bool {
        match self {
            Self::At(address) => match address.ip() {
                IpAddr::V4(address) => {
                    address.is_loopback() || address.is_private() || address.is_link_local()
                }
                IpAddr::V6(address) => {
                    address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
                }
            },
            Self::Name(host, _) => host == "localhost",
        }
    }

    /// The addresses, those of a name as the host's resolver has them now.
    ///
    /// # Errors
    /// `config.invalid` for a name that has none.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = match self {
            Self::At(address) => return Ok(vec![*address]),
            Self::Name(host, port) => (host.as_str(), *port),
        };
        let refused = |why: String| Failure::new(Reason::ConfigInvalid, format!("listen: `{host}` {why}"));
        let found = tokio::net::lookup_host((host, port)).await;
        let mut found: Vec<SocketAddr> =
            found.map_err(|error| refused(format!("has no address: {error}")))?.collect();
        found.sort_unstable();
        found.dedup();
        if found.is_empty() { Err(refused("has no address".to_owned())) } else { Ok(found) }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}
