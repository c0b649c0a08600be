//! Arithmetic of prefixes.

use ipnet::IpNet;

/// True if the prefixes have an address in common.
pub fn share(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The fewest prefixes that hold every address of `prefix` but those in `holes`, in order.
pub(crate) fn without(prefix: IpNet, holes: &[IpNet]) -> Vec<IpNet> {
    let inner: Vec<IpNet> = holes.iter().filter(|hole| share(hole, &prefix)).copied().collect();
    if inner.is_empty() {
        return vec![prefix];
    }
    if inner.iter().any(|hole| hole.contains(&prefix)) {
        return Vec::new();
    }
    let halves = prefix.subnets(prefix.prefix_len() + 1).into_iter().flatten();
    halves.flat_map(|half| without(half, &inner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn left(prefix: &str, holes: &[&str]) -> Vec<String> {
        without(prefix.parse().unwrap(), &nets(holes)).iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn what_is_left_has_every_other_address_and_no_hole() {
        assert_eq!(left("10.0.0.0/24", &[]), ["10.0.0.0/24"]);
        assert_eq!(left("10.0.0.0/24", &["10.1.0.0/16", "fd00::/8"]), ["10.0.0.0/24"]);
        assert_eq!(left("10.0.0.0/24", &["10.0.0.0/25"]), ["10.0.0.128/25"]);
        assert_eq!(left("10.0.0.0/30", &["10.0.0.1/32"]), ["10.0.0.0/32", "10.0.0.2/31"]);
        assert_eq!(left("10.0.0.0/24", &["10.0.0.0/24"]), [] as [&str; 0]);
        assert_eq!(left("10.0.0.0/24", &["10.0.0.0/8"]), [] as [&str; 0]);
        assert_eq!(left("fd00::/126", &["fd00::1/128", "fd00::3/128"]), ["fd00::/128", "fd00::2/128"]);
        assert_eq!(left("10.0.0.1/32", &["10.0.0.1/32"]), [] as [&str; 0]);
    }

    #[test]
    fn one_hole_of_one_address_leaves_one_prefix_per_bit() {
        assert_eq!(left("100.96.0.0/16", &["100.96.7.7/32"]).len(), 16);
        assert_eq!(left("fd00::/48", &["fd00::7/128"]).len(), 80);
    }
}
