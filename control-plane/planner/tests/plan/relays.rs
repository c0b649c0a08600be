//! Who relays, who is told of it, and who knows whom because of it.

use prost::Message as _;
use rap_contract::{peer_slot, relays_slot};
use rap_planner::{ClusterRows, LeftOut, Limits, NodeRow, Plan, plan};
use rap_types::{Capability, NodeId, OrganizationId, Role};
use rap_wire::v1;

use super::{changes, key, node, remember, rows};

fn relay(number: u32, organization: Option<u8>) -> NodeRow {
    NodeRow {
        roles: vec![Role::RelayNode],
        capabilities: vec![Capability::RouteMesh],
        ..node(number, organization, 0)
    }
}

fn plain(number: u32, organization: Option<u8>) -> NodeRow {
    NodeRow { roles: vec![], capabilities: vec![Capability::RouteMesh], ..node(number, organization, 0) }
}

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn owner(byte: u8) -> Option<OrganizationId> {
    Some(OrganizationId::from_bytes([byte; 16]))
}

/// The relays that a node is told of for an owner, by the first byte of their ids.
fn told(plan: &Plan, holder: u8, owner: Option<OrganizationId>) -> Option<Vec<u8>> {
    let chunk = plan.nodes.get(&id(holder))?.manifest.chunk(&relays_slot(owner))?;
    match v1::Chunk::decode(&**plan.chunks.get(&chunk)?).unwrap().body.unwrap() {
        v1::chunk::Body::Relays(relays) => Some(relays.relays.iter().map(|relay| relay.node_id[0]).collect()),
        other => panic!("{other:?}"),
    }
}

/// The peers that a node knows.
fn known(plan: &Plan, holder: u8) -> Vec<u8> {
    let manifest = &plan.nodes.get(&id(holder)).unwrap().manifest;
    (0..=u8::MAX).filter(|number| manifest.chunk(&peer_slot(id(*number))).is_some()).collect()
}

/// Relays 1 and 2 of the platform, 3 of organization 7; plain nodes 4 of the platform, 5 and 6 of 7, 8 of 9.
fn world() -> Vec<NodeRow> {
    vec![
        relay(1, None),
        relay(2, None),
        relay(3, Some(7)),
        plain(4, None),
        plain(5, Some(7)),
        plain(6, Some(7)),
        plain(8, Some(9)),
    ]
}

#[test]
fn a_customers_node_never_relays_for_the_platform_or_another_customer() {
    let plan = plan(&rows(1, world()), &key()).unwrap();
    for holder in [1, 2, 3, 4, 5, 6, 8] {
        assert_eq!(told(&plan, holder, None), Some(vec![1, 2]), "{holder}");
        let of_seven = [1, 2, 3, 5, 6].contains(&holder).then(|| vec![3]);
        assert_eq!(told(&plan, holder, owner(7)), of_seven, "{holder}");
        assert_eq!(told(&plan, holder, owner(9)), None, "{holder}");
    }
}

#[test]
fn a_plain_node_knows_its_own_and_relays_and_a_relay_of_the_platform_knows_everybody() {
    let plan = plan(&rows(1, world()), &key()).unwrap();
    assert_eq!(known(&plan, 1), [2, 3, 4, 5, 6, 8]);
    assert_eq!(known(&plan, 3), [1, 2, 5, 6]);
    assert_eq!(known(&plan, 4), [1, 2]);
    assert_eq!(known(&plan, 5), [1, 2, 3, 6]);
    assert_eq!(known(&plan, 8), [1, 2]);
}

#[test]
fn a_relay_has_a_role_a_host_that_routes_and_an_endpoint() {
    let told_with = |change: fn(&mut NodeRow)| {
        let mut nodes = vec![relay(1, None), plain(4, None)];
        change(&mut nodes[0]);
        told(&plan(&rows(1, nodes), &key()).unwrap(), 4, None)
    };
    assert_eq!(told_with(|_| {}), Some(vec![1]));
    assert_eq!(told_with(|node| node.roles = vec![Role::Core]), Some(vec![1]));
    assert_eq!(told_with(|node| node.roles = vec![Role::Egress]), None);
    assert_eq!(told_with(|node| node.capabilities.clear()), None);
    assert_eq!(told_with(|node| node.link_endpoints.clear()), None);
    assert_eq!(told_with(|node| node.link_endpoints = vec!["0.0.0.0:7443".into()]), None);
}

#[test]
fn a_relay_that_comes_or_drains_changes_one_chunk_of_those_who_knew_it() {
    let before = rows(1, world());
    let first = plan(&before, &key()).unwrap();
    let mut drained = remember(rows(2, world()), &first);
    drained.nodes[1].draining = true;
    let second = first.next(&changes(&before, &drained), &key()).unwrap().unwrap();
    let delta = |from: &Plan, to: &Plan, number: u8| {
        let [from, to] = [from, to].map(|plan| &plan.nodes.get(&id(number)).unwrap().manifest);
        let (set, removed) = from.delta(to);
        (set.into_iter().map(|slot| slot.key).collect::<Vec<_>>(), removed)
    };
    assert_eq!(delta(&first, &second, 5), (vec![relays_slot(None)], vec![]));
    let mut resigned = remember(rows(3, drained.nodes.clone()), &second);
    resigned.nodes[1].roles.clear();
    let third = second.next(&changes(&drained, &resigned), &key()).unwrap().unwrap();
    assert_eq!(told(&third, 5, None), Some(vec![1]));
    assert_eq!(delta(&second, &third, 5), (vec![relays_slot(None)], vec![peer_slot(id(2))]));
    assert_eq!(known(&third, 2), [1, 4], "it is a plain node of the platform now");
}

#[test]
fn a_plain_nodes_scope_has_a_limit_of_its_own() {
    let limits = Limits { plain_peers: 3, ..Limits::default() };
    let nodes: Vec<NodeRow> = (4..=8).map(|number| plain(number, Some(7))).chain([relay(1, None)]).collect();
    let plan = plan(&ClusterRows { limits, ..rows(1, nodes) }, &key()).unwrap();
    assert_eq!(
        plan.left_out.into_iter().collect::<Vec<_>>(),
        [(id(7), LeftOut::Node), (id(8), LeftOut::Node)]
    );
}
