//! Shapes of a network: which hosts there are, what they are to be, and who reaches whom. Owns the graph; nothing here makes a host.

use std::collections::BTreeSet;

/// What a host is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A node without duties.
    Plain,
    /// A node that carries for others.
    Relay,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// What it is to be.
    pub role: Role,
    /// Region of its node; empty for none.
    pub region: &'static str,
    /// Whether others may dial it.
    pub dialled: bool,
    /// The router of its network; `None`: it is on the switch.
    pub router: Option<&'static str>,
}

/// Hosts, and those pairs of the hosts on the switch that do not hear each other from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// In the order in which they are made.
    pub places: Vec<Place>,
    /// Who hears whom.
    pub graph: Graph,
}

/// Who hears whom: `(from, to)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    relays: Vec<&'static str>,
    heard: BTreeSet<(&'static str, &'static str)>,
}

impl Place {
    fn plain(name: &'static str) -> Self {
        Self { name, role: Role::Plain, region: "", dialled: true, router: None }
    }

    fn relay(name: &'static str) -> Self {
        Self { role: Role::Relay, ..Self::plain(name) }
    }
}

impl Topology {
    /// Hosts that all hear each other, without relays.
    pub fn flat(names: &[&'static str]) -> Self {
        Self::all_hear(names.iter().map(|name| Place::plain(name)).collect())
    }

    /// Two nodes, each behind a router that lets nothing in, and two relays.
    pub fn two_sites() -> Self {
        let site = |name, router| Place { dialled: false, router: Some(router), ..Place::plain(name) };
        Self::all_hear(vec![Place::relay("r1"), Place::relay("r2"), site("a", "ga"), site("b", "gb")])
    }

    /// Two nodes with three steps of two relays each between them; each step hears the next one alone. The first two are in the
    /// region of the one node and the last two in that of the other, so that these are their homes.
    pub fn chain() -> Self {
        let steps = [("west", ["r1", "s1"]), ("middle", ["r2", "s2"]), ("east", ["r3", "s3"])];
        let relays = steps
            .iter()
            .flat_map(|(region, names)| names.iter().map(|name| Place { region, ..Place::relay(name) }));
        let end = |name, region| Place { region, dialled: false, ..Place::plain(name) };
        let ends = [end("a", "west"), end("b", "east")];
        let mut topology = Self::all_hear(relays.chain(ends).collect());
        let order = [vec!["a"], vec!["r1", "s1"], vec!["r2", "s2"], vec!["r3", "s3"], vec!["b"]];
        topology.graph.heard.retain(|(from, to)| {
            let step = |name| order.iter().position(|names| names.contains(name));
            matches!((step(from), step(to)), (Some(one), Some(other)) if one.abs_diff(other) == 1)
        });
        topology
    }

    /// Nine nodes and three relays, which all hear each other.
    pub fn mesh12() -> Self {
        let relays = ["r1", "r2", "r3"].map(Place::relay);
        let nodes = ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"].map(Place::plain);
        Self::all_hear(relays.into_iter().chain(nodes).collect())
    }

    fn all_hear(places: Vec<Place>) -> Self {
        let names = || places.iter().map(|place| place.name);
        let heard = names().flat_map(|one| names().map(move |other| (one, other)));
        let heard = heard.filter(|(one, other)| one != other).collect();
        let relays = places.iter().filter(|place| place.role == Role::Relay).map(|place| place.name);
        Self { graph: Graph { relays: relays.collect(), heard }, places }
    }

    /// Every pair of hosts once.
    pub fn pairs(&self) -> Vec<(&'static str, &'static str)> {
        let after = |at: usize| self.places[at + 1..].iter().map(|place| place.name);
        let named = self.places.iter().enumerate();
        named.flat_map(|(at, place)| after(at).map(move |other| (place.name, other))).collect()
    }
}

impl Graph {
    /// Whether both hear each other: nothing is carried between two of whom one is deaf.
    pub fn linked(&self, one: &str, other: &str) -> bool {
        self.hears(one, other) && self.hears(other, one)
    }

    fn hears(&self, from: &str, to: &str) -> bool {
        self.heard.iter().any(|pair| *pair == (from, to))
    }

    /// What `from` sends reaches `to` no more.
    pub fn cut(&mut self, from: &'static str, to: &'static str) {
        self.heard.remove(&(from, to));
    }

    /// Both hear each other.
    pub fn heal(&mut self, one: &'static str, other: &'static str) {
        self.heard.extend([(one, other), (other, one)]);
    }

    /// The least number of relays through which two hosts reach each other, 0 if they need none; `None`: not through three.
    pub fn relays_between(&self, from: &str, to: &str) -> Option<usize> {
        let mut reached: Vec<&str> = vec![from];
        for relays in 0..=RELAYS_MAX {
            if reached.iter().any(|at| self.linked(at, to)) {
                return Some(relays);
            }
            let further =
                self.relays.iter().copied().filter(|relay| *relay != to && !reached.contains(relay));
            let next: Vec<&str> =
                further.filter(|relay| reached.iter().any(|at| self.linked(at, relay))).collect();
            reached.extend(next);
        }
        None
    }
}

/// Relays of the longest path.
const RELAYS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_has_three_relays_on_each_way_and_a_spare_for_each_of_them() {
        let Topology { places, graph } = Topology::chain();
        assert_eq!(places.len(), 8);
        assert_eq!(graph.relays_between("a", "b"), Some(3));
        for dead in ["r1", "s1", "r2", "s2", "r3", "s3"] {
            let mut graph = graph.clone();
            graph.heard.retain(|(from, to)| *from != dead && *to != dead);
            assert_eq!(graph.relays_between("a", "b"), Some(3), "without {dead}");
            assert_eq!(graph.relays_between("a", dead), None);
        }
        assert!(!graph.linked("r1", "s1") && !graph.linked("r1", "r3") && graph.linked("s3", "b"));
    }

    #[test]
    fn the_graph_says_who_is_connected_and_through_how_many() {
        let mesh = Topology::mesh12();
        assert_eq!((mesh.places.len(), mesh.pairs().len()), (12, 66));
        let mut graph = mesh.graph;
        assert_eq!(graph.relays_between("n1", "n2"), Some(0));
        graph.cut("n1", "n2");
        assert_eq!((graph.relays_between("n1", "n2"), graph.relays_between("n2", "n1")), (Some(1), Some(1)));
        for (one, other) in [("n1", "r2"), ("n1", "r3"), ("n2", "r1"), ("r1", "r3"), ("n2", "r2")] {
            graph.cut(one, other);
        }
        assert_eq!(graph.relays_between("n1", "n2"), Some(3));
        graph.cut("r2", "r3");
        assert_eq!(graph.relays_between("n1", "n2"), None, "no plain node carries");
        graph.heal("n2", "r2");
        assert_eq!(graph.relays_between("n1", "n2"), Some(2));
    }

    #[test]
    fn two_sites_have_routers_and_a_flat_network_has_no_relays() {
        let sites = Topology::two_sites();
        assert_eq!(sites.places.iter().filter(|place| place.router.is_some() && !place.dialled).count(), 2);
        let flat = Topology::flat(&["x", "y", "z"]);
        assert!(flat.pairs().iter().all(|(one, other)| flat.graph.relays_between(one, other) == Some(0)));
        assert!(flat.graph.relays.is_empty());
    }
}
