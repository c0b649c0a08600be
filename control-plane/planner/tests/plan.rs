//! Properties of the planner: purity, scope, and that saved work changes nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rap_contract::Manifest;
use rap_planner::{ClusterRows, LeafMemory, MapKey, NodeRow, Plan, PlanError, plan};
use rap_types::{ClusterId, Incarnation, InstallationId, NodeId, OrganizationId, Role, Version};

fn node(number: u32, organization: Option<u8>, tag: u8) -> NodeRow {
    NodeRow {
        node: NodeId::from_bytes([number as u8; 16]),
        name: format!("node-{number}"),
        node_public_key: [number as u8; 32],
        wireguard_public_key: [number as u8 ^ 0x80; 32],
        organization: organization.map(|byte| OrganizationId::from_bytes([byte; 16])),
        roles: vec![Role::Core],
        tags: vec![],
        region: format!("r{tag}"),
        link_endpoints: vec![format!("127.0.0.{number}:7443")],
        wireguard_endpoints: vec![format!("127.0.0.{number}:51820")],
        host_number: number,
        key_generation: 1,
        leaf: None,
    }
}

fn rows(version: u64, nodes: Vec<NodeRow>) -> ClusterRows {
    ClusterRows {
        installation: InstallationId::from_bytes([1; 16]),
        cluster: ClusterId::from_bytes([2; 16]),
        name: "prod".into(),
        incarnation: Incarnation(1),
        version: Version(version),
        ipv4_pool: "100.96.0.0/16".parse().unwrap(),
        cluster_ca: vec![1, 2, 3],
        degraded_for_ms: 43_200_000,
        leaf_lifetime_ms: 86_400_000,
        mtu: 1280,
        link_probe_interval_ms: 5_000,
        wireguard_keepalive_s: 25,
        nodes,
        revoked: vec![],
    }
}

fn remember(mut rows: ClusterRows, plan: &Plan) -> ClusterRows {
    for node in &mut rows.nodes {
        node.leaf = plan
            .nodes
            .get(&node.node)
            .map(|plan| LeafMemory { generation: plan.generation, manifest_root: plan.manifest_root });
    }
    rows
}

fn key() -> MapKey {
    MapKey::from_bytes([9; 32])
}

fn node_set() -> impl Strategy<Value = Vec<NodeRow>> {
    proptest::collection::btree_map(1u32..40, (proptest::option::of(1u8..4), 0u8..3), 0..20).prop_map(
        |nodes| {
            nodes.into_iter().map(|(number, (organization, tag))| node(number, organization, tag)).collect()
        },
    )
}

proptest! {
    #[test]
    fn a_plan_made_from_the_previous_one_equals_one_from_scratch(a in node_set(), b in node_set()) {
        let first = plan(&rows(1, a), &key(), None).unwrap();
        let second = remember(rows(2, b), &first);
        let incremental = plan(&second, &key(), Some(&first)).unwrap();
        let scratch = plan(&second, &key(), None).unwrap();
        prop_assert_eq!(incremental.tree.root(), scratch.tree.root());
        prop_assert_eq!(incremental.nodes, scratch.nodes);
        prop_assert_eq!(incremental.chunks, scratch.chunks);
    }

    #[test]
    fn updates_lead_to_the_plan_and_carry_no_chunk_outside_the_scope(a in node_set(), b in node_set()) {
        let first = plan(&rows(1, a), &key(), None).unwrap();
        let second_rows = remember(rows(2, b), &first);
        let second = plan(&second_rows, &key(), Some(&first)).unwrap();
        for (id, target) in &second.nodes {
            let known = first.nodes.get(id).map(|plan| &plan.manifest);
            let update = second.update(*id, known, b"head").unwrap();
            let base = known.cloned().unwrap_or_else(Manifest::new);
            let reached = base.apply(&update.slots_set, &update.slots_removed).unwrap();
            prop_assert_eq!(&reached, &target.manifest);
            let scope: Vec<_> = target.manifest.iter().map(|(_, chunk)| chunk).collect();
            for chunk in &update.chunks {
                prop_assert!(scope.contains(&rap_contract::chunk_id(chunk)));
            }
        }
    }

    #[test]
    fn a_node_never_holds_a_record_it_may_not_see(nodes in node_set()) {
        let plan = plan(&rows(1, nodes.clone()), &key(), None).unwrap();
        let by_id: BTreeMap<NodeId, &NodeRow> = nodes.iter().map(|node| (node.node, node)).collect();
        for (id, part) in &plan.nodes {
            for (other, row) in &by_id {
                let held = part.manifest.chunk(&rap_contract::peer_slot(*other)).is_some();
                prop_assert_eq!(held, by_id[id].sees(row));
            }
        }
    }
}

#[test]
fn a_change_of_one_nodes_own_scope_moves_that_leaf_only() {
    let nodes: Vec<NodeRow> = (1..=8).map(|number| node(number, None, 0)).collect();
    let first = plan(&rows(1, nodes.clone()), &key(), None).unwrap();
    let mut changed = remember(rows(2, nodes), &first);
    changed.nodes[2].tags = vec!["edge".into()];
    let second = plan(&changed, &key(), Some(&first)).unwrap();
    for (id, part) in &second.nodes {
        assert_eq!(part.leaf_hash != first.nodes[id].leaf_hash, *id == changed.nodes[2].node);
    }
    assert_eq!(second.nodes[&changed.nodes[2].node].generation, 2);
}

#[test]
fn shared_and_outside_host_numbers_are_refused() {
    let shared = rows(1, vec![node(1, None, 0), NodeRow { host_number: 1, ..node(2, None, 0) }]);
    assert_eq!(plan(&shared, &key(), None).unwrap_err(), PlanError::HostNumberShared(1));
    let outside = rows(1, vec![NodeRow { host_number: 70_000, ..node(1, None, 0) }]);
    assert!(matches!(plan(&outside, &key(), None).unwrap_err(), PlanError::HostNumber(_)));
}
