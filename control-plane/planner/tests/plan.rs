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
        wireguard_key_max_age_ms: 0,
        identity_key_max_age_ms: 0,
        degraded_ends: Vec::new(),
        survive_forever_roles: Vec::new(),
        gone: Vec::new(),
        revocations: Default::default(),
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

mod revocations {
    use super::*;
    use std::sync::Arc;

    use prost::Message as _;
    use rap_contract::{
        Audience, AuthorityChain, HeaderTerms, Revocation, RevocationChain, RevocationKind, Signer,
        TRUST_SLOT, sign,
    };
    use rap_types::{KeyId, Wall};
    use rap_wire::v1;

    const NOW: Wall = Wall(1_800_000_000_000);

    fn authority() -> (AuthorityChain, Signer) {
        let [installation, cluster] = [Signer::from_seed(&[1; 32]), Signer::from_seed(&[2; 32])];
        let header = HeaderTerms {
            installation: InstallationId::from_bytes([1; 16]),
            cluster: ClusterId::from_bytes([2; 16]),
            audience: Audience::Cluster(ClusterId::from_bytes([2; 16])),
            issuer: installation.id(),
            incarnation: 1,
            sequence: 1,
            issued_at: NOW,
            expires_at: None,
            critical: vec![],
        };
        let record = v1::AuthorityRecord {
            header: Some(header.to_wire()),
            kind: v1::authority_record::Kind::Create.into(),
            authority_key: cluster.public().to_vec(),
            previous_record_digest: vec![],
        };
        let records = [sign(&record, &[&installation, &cluster])];
        let (id, of) = (header.installation, header.cluster);
        let chain = AuthorityChain::verify(&records, &installation.public(), id, of, &[]).unwrap();
        (chain, cluster)
    }

    fn chain(revoked: &[(u32, RevocationKind, Wall)]) -> Arc<RevocationChain> {
        let (authority, signer) = authority();
        let mut chain = RevocationChain::default();
        for (number, kind, at) in revoked {
            let node = node(*number, None, 0);
            let generation = chain.revoked().get(&node.node).copied().unwrap_or(1);
            let key = KeyId::of(&node.node_public_key);
            let record = Revocation { kind: *kind, node: node.node, key, generation, reason: String::new() };
            let record = chain.sign_next(&record, &authority, &signer, &[], *at).unwrap();
            chain = chain.extended(&[record], &authority, &[]).unwrap();
        }
        Arc::new(chain)
    }

    fn trust(plan: &Plan) -> v1::TrustChunk {
        let node = plan.nodes.values().next().unwrap();
        let chunk = &plan.chunks[&node.manifest.chunk(TRUST_SLOT).unwrap()];
        match v1::Chunk::decode(&**chunk).unwrap().body.unwrap() {
            v1::chunk::Body::Trust(trust) => trust,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_nodes_are_told_comes_from_the_chain_alone() {
        let revocations = chain(&[(2, RevocationKind::Banned, NOW), (3, RevocationKind::Left, NOW)]);
        let gone = vec![NodeId::from_bytes([2; 16]), NodeId::from_bytes([3; 16])];
        let rows = ClusterRows { revocations: revocations.clone(), gone, ..rows(3, vec![node(1, None, 0)]) };
        let told = trust(&plan(&rows, &key(), None).unwrap());
        let listed: Vec<_> = told.revoked.iter().map(|one| (one.node_id[0], one.key_generation)).collect();
        assert_eq!(listed, [(2, 1), (3, 1)]);
        assert_eq!(told.revocation_sequence, 2);
        assert_eq!(told.revocation_digest, revocations.digest().unwrap().to_vec());
    }

    #[test]
    fn rows_that_contradict_the_chain_make_no_plan() {
        let revocations = chain(&[(2, RevocationKind::Banned, NOW), (3, RevocationKind::Evicted, NOW)]);
        let id = |number| NodeId::from_bytes([number; 16]);
        let with = |members: Vec<NodeRow>, gone: Vec<NodeId>| {
            let rows = ClusterRows { revocations: revocations.clone(), gone, ..rows(3, members) };
            plan(&rows, &key(), None).map(|_| ())
        };
        assert_eq!(with(vec![node(1, None, 0)], vec![id(2), id(3)]), Ok(()));
        // Made a member again in SQL, also under another generation, and a banned key under another id.
        assert_eq!(with(vec![node(2, None, 0)], vec![]), Err(PlanError::NotAdmitted(id(2))));
        let raised = NodeRow { key_generation: 2, ..node(3, None, 0) };
        assert_eq!(with(vec![raised], vec![]), Err(PlanError::NotAdmitted(id(3))));
        let twin = NodeRow { node_public_key: [2; 32], ..node(4, None, 0) };
        assert_eq!(with(vec![twin], vec![]), Err(PlanError::NotAdmitted(id(4))));
        // Thrown out in SQL.
        assert_eq!(with(vec![], vec![id(1)]), Err(PlanError::NotRevoked(id(1))));
        assert_eq!(PlanError::NotRevoked(id(1)).reason(), rap_types::Reason::RowTampered);
    }

    #[test]
    fn a_readmitted_node_is_a_member_with_the_next_generation_only() {
        let same = KeyId::of(&node(2, None, 0).node_public_key);
        let revocations =
            chain(&[(2, RevocationKind::Evicted, NOW), (2, RevocationKind::Readmitted(same), NOW)]);
        let with = |generation| {
            let member = NodeRow { key_generation: generation, ..node(2, None, 0) };
            plan(&ClusterRows { revocations: revocations.clone(), ..rows(3, vec![member]) }, &key(), None)
        };
        assert!(with(1).is_err());
        assert!(with(3).is_err());
        assert_eq!(trust(&with(2).unwrap()).revoked[0].key_generation, 1);
    }

    #[test]
    fn revocations_whose_leaves_ended_are_not_told_and_still_count() {
        let day = 86_400_000;
        let revocations =
            chain(&[(2, RevocationKind::Left, NOW), (3, RevocationKind::Left, Wall(NOW.0 + 3 * day))]);
        let gone = vec![NodeId::from_bytes([2; 16]), NodeId::from_bytes([3; 16])];
        let rows = ClusterRows { revocations, gone, ..rows(3, vec![node(1, None, 0)]) };
        let told = trust(&plan(&rows, &key(), None).unwrap());
        assert_eq!(told.revoked.iter().map(|one| one.node_id[0]).collect::<Vec<_>>(), [3]);
        assert_eq!(told.revocation_sequence, 2);
    }
}
