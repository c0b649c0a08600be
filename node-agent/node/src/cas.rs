//! The CAs of node certificates as a snapshot names them: one, or two while the CA is rotated.

use rap_wire::v1;

/// The trusted CAs of a cluster, DER.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedCas {
    /// Signs certificates now.
    pub issuing: Vec<u8>,
    /// Trusted, too.
    pub other: Option<Vec<u8>>,
}

impl TrustedCas {
    /// What a trust set says.
    pub fn of(trust: &v1::TrustChunk) -> Self {
        let older = trust.cluster_ca.clone();
        match (trust.next_cluster_ca.as_slice(), trust.next_ca_issues) {
            ([], _) => Self { issuing: older, other: None },
            (newer, true) => Self { issuing: newer.to_vec(), other: Some(older) },
            (newer, false) => Self { issuing: older, other: Some(newer.to_vec()) },
        }
    }

    /// Both.
    pub fn all(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.issuing).chain(&self.other)
    }

    /// Whether certificates of this CA are trusted. One that is not known is from before CAs were rotated.
    pub fn trusts(&self, authority: &[u8]) -> bool {
        authority.is_empty() || self.all().any(|known| known == authority)
    }

    /// What the data plane is told of a certificate by this CA: (its CA, next, former). `None` if it is not trusted.
    pub(crate) fn of_leaf(&self, trust: &v1::TrustChunk, authority: &[u8]) -> Option<[Vec<u8>; 3]> {
        let own = if authority.is_empty() { trust.cluster_ca.as_slice() } else { authority };
        let other = self.other.clone().unwrap_or_default();
        if own == self.issuing {
            return Some([self.issuing.clone(), Vec::new(), other]);
        }
        (self.other.as_deref() == Some(own)).then(|| [other, self.issuing.clone(), Vec::new()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(next: &[u8], next_ca_issues: bool) -> v1::TrustChunk {
        v1::TrustChunk {
            cluster_ca: b"old".to_vec(),
            next_cluster_ca: next.to_vec(),
            next_ca_issues,
            ..v1::TrustChunk::default()
        }
    }

    #[test]
    fn a_leaf_goes_with_its_own_ca_and_the_other_is_next_or_former() {
        let told = |trust: v1::TrustChunk, authority: &[u8]| {
            let parts = TrustedCas::of(&trust).of_leaf(&trust, authority);
            parts.map(|parts| parts.map(|part| String::from_utf8(part).unwrap()))
        };
        let row = |own: &str, next: &str, former: &str| Some([own, next, former].map(str::to_owned));
        assert_eq!(told(trust(b"", false), b"old"), row("old", "", ""));
        assert_eq!(told(trust(b"", false), b""), row("old", "", ""), "a leaf of before");
        assert_eq!(told(trust(b"", false), b"new"), None);
        assert_eq!(told(trust(b"new", false), b"old"), row("old", "", "new"));
        assert_eq!(told(trust(b"new", true), b"old"), row("old", "new", ""));
        assert_eq!(told(trust(b"new", true), b""), row("old", "new", ""));
        assert_eq!(told(trust(b"new", true), b"new"), row("new", "", "old"));
        assert_eq!(told(trust(b"new", false), b"new"), row("new", "old", ""), "the rotation goes back");
        assert_eq!(told(trust(b"new", true), b"third"), None);
    }
}
