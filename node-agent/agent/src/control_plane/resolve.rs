//! Addresses of the control URLs, for what must stay clear of them. Refuses to choose one to dial.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rap_rpc::dial::ControlUrl;

/// The addresses that URLs name without a name.
pub fn literal(urls: &[ControlUrl]) -> BTreeSet<IpAddr> {
    urls.iter().filter_map(|url| url.host_and_port().0.parse().ok()).collect()
}

/// Resolves every URL. Addresses known before stay if a name does not resolve now.
pub async fn resolve(urls: &[ControlUrl], known: &mut BTreeSet<IpAddr>) {
    let mut found = BTreeSet::new();
    for url in urls {
        let looked_up = tokio::net::lookup_host(url.host_and_port());
        match tokio::time::timeout(WAIT, looked_up).await {
            Ok(Ok(addresses)) => found.extend(addresses.map(|address| address.ip().to_canonical())),
            Ok(Err(_)) | Err(_) => found.extend(known.iter()),
        }
    }
    *known = found;
}

const WAIT: Duration = Duration::from_secs(2);
