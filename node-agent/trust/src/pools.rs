//! The addresses that memberships of one host take, and that no two of them may share.
//!
//! Owns what a signed document takes of the host's address space and who holds it: first come, first
//! served. Refuses to own where claims are kept.

use std::collections::BTreeMap;

use ipnet::IpNet;
use rap_contract::Reject;
use rap_types::Reason;
use rap_wire::v1;

use crate::OwnAddresses;

/// Prefixes of one overlay, as far as this host routes into them.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Pools(Vec<IpNet>);

impl Pools {
    /// What a token says that its cluster takes. Tokens of older control planes say nothing.
    ///
    /// # Errors
    /// `payload.malformed`.
    pub fn of_token(token: &v1::JoinToken) -> Result<Self, Reject> {
        Self::read(token.overlay_pools.iter().map(String::as_str), Reason::PayloadMalformed)
    }

    /// What a contract says: own addresses with the prefixes of their pools.
    ///
    /// # Errors
    /// `payload.malformed`.
    pub fn of_contract(contract: &v1::BootstrapContract) -> Result<Self, Reject> {
        Self::read([contract.overlay_ipv4.as_str(), contract.overlay_ipv6.as_str()], Reason::PayloadMalformed)
    }

    /// Everything that a table with these own addresses would route into the overlay. No peer is outside.
    pub fn of_own(own: Option<&OwnAddresses>) -> Self {
        Self(own.map(|own| own.pools().prefixes().to_vec()).unwrap_or_default())
    }

    /// The prefixes, none within another.
    pub fn prefixes(&self) -> &[IpNet] {
        &self.0
    }

    /// The first pair of prefixes that share an address.
    pub fn overlap(&self, other: &Self) -> Option<(IpNet, IpNet)> {
        let pairs = self.0.iter().flat_map(|own| other.0.iter().map(move |other| (*own, *other)));
        pairs.into_iter().find(|(own, other)| own.contains(other) || other.contains(own))
    }

    fn read<'a>(texts: impl IntoIterator<Item = &'a str>, reason: Reason) -> Result<Self, Reject> {
        let mut prefixes: Vec<IpNet> = Vec::new();
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            let prefix = match text.parse::<IpNet>() {
                Ok(prefix) => prefix.trunc(),
                Err(_) => {
                    let address = text.parse::<std::net::IpAddr>();
                    IpNet::from(address.map_err(|_| Reject::new(reason, "an overlay address does not read"))?)
                }
            };
            if !prefixes.iter().any(|held| held.contains(&prefix)) {
                prefixes.retain(|held| !prefix.contains(held));
                prefixes.push(prefix);
            }
        }
        Ok(Self(prefixes))
    }
}

/// Two memberships want the same addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Membership that holds them.
    pub holder: String,
    /// Prefix that the holder has.
    pub held: IpNet,
    /// The prefix that was refused.
    pub refused: IpNet,
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { holder, held, refused } = self;
        write!(f, "{refused} overlaps {held} of membership `{holder}` on this host")
    }
}

/// Who holds which addresses of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims(BTreeMap<String, Pools>);

impl Claims {
    /// Gives `pools` to the membership `name`, instead of what it held. A refusal changes nothing.
    ///
    /// # Errors
    /// [`Overlap`] with another membership.
    pub fn claim(&mut self, name: &str, pools: Pools) -> Result<(), Overlap> {
        self.check(name, &pools)?;
        self.0.insert(name.to_owned(), pools);
        Ok(())
    }

    /// Says whether [`Self::claim`] would be granted.
    ///
    /// # Errors
    /// [`Overlap`] with another membership.
    pub fn check(&self, name: &str, pools: &Pools) -> Result<(), Overlap> {
        for (holder, other) in self.0.iter().filter(|(holder, _)| *holder != name) {
            if let Some((refused, held)) = pools.overlap(other) {
                return Err(Overlap { holder: holder.clone(), held, refused });
            }
        }
        Ok(())
    }

    /// The membership left: its addresses are free.
    pub fn release(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(texts: &[&str]) -> Pools {
        Pools::read(texts.iter().copied(), Reason::PayloadMalformed).unwrap()
    }

    #[test]
    fn the_first_holder_keeps_what_it_has_in_both_families() {
        let mut claims = Claims::default();
        claims.claim("a", pools(&["100.96.0.5/16", "fd00:0:1::5/48"])).unwrap();
        for bad in ["100.96.3.0/24", "100.64.0.0/10", "100.96.0.9", "fd00:0:1::/64", "fd00::/16", "0.0.0.0/0"]
        {
            let overlap = claims.claim("b", pools(&["10.0.0.0/8", bad])).unwrap_err();
            assert_eq!(overlap.holder, "a", "{bad}");
            assert!(overlap.to_string().contains("`a`"), "{overlap}");
        }
        claims.claim("b", pools(&["100.97.0.0/16", "fd00:0:2::/48"])).unwrap();
        // What it has it may have again, and more of it.
        claims.claim("a", pools(&["100.96.0.0/16", "100.98.0.0/16"])).unwrap();
        assert!(claims.claim("b", pools(&["100.98.7.0/24"])).is_err());
        assert!(claims.check("c", &pools(&["100.97.1.0/24"])).is_err(), "b kept its own after the refusal");
        claims.release("a");
        claims.claim("b", pools(&["100.96.0.0/16"])).unwrap();
    }

    #[test]
    fn prefixes_within_others_are_not_kept_twice() {
        let held = pools(&["100.96.0.5/16", "100.96.0.0/16", "100.96.0.9", "10.1.0.0/24", "10.0.0.0/8"]);
        assert_eq!(held, pools(&["100.96.0.0/16", "10.0.0.0/8"]));
        assert_eq!(pools(&[""]), Pools::default());
        let reject = Pools::read(["100.96/16"], Reason::SnapshotSemantic).unwrap_err();
        assert_eq!(reject.reason, Reason::SnapshotSemantic);
    }
}
