//! Properties of the planner: purity, scope, and that saved work changes nothing.

mod relays;
mod sense;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use rap_contract::{
    Audience, AuthorityChain, HeaderTerms, Revocation, RevocationChain, RevocationKind, Signer, sign,
};
use rap_planner::{ClusterRows, LeafMemory, LeftOut, Limits, MapKey, NodeRow, Plan, PlanError, plan};
use rap_types::{
    Capability, ClusterId, Incarnation, InstallationId, KeyId, NodeId, OrganizationId, Role, Version, Wall,
};
use rap_wire::v1;

fn node(number: u32, organization: Option<u8>, tag: u8) -> NodeRow {
    NodeRow {
        node: NodeId::from_bytes([number as u8; 16]),
        name: format!("node-{number}"),
        node_public_key: [number as u8; 32],
        wireguard_public_key: [number as u8 ^ 0x40; 32],
        organization: organization.map(|byte| OrganizationId::from_bytes([byte; 16])),
        roles: vec![Role::Core],
        capabilities: vec![],
        draining: false,
        tags: vec![],
        region: format!("r{tag}"),
        link_endpoints: vec![format!("127.0.0.{number}:7443")],
        wireguard_endpoints: vec![format!("127.0.0.{number}:51820")],
        host_number: number,
        key_generation: 1,
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
        next_ca: None,
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
        leaves: BTreeMap::new(),
        limits: Limits::default(),
        loopback: rap_types::sense::Loopback::Allowed,
    }
}

fn remember(rows: ClusterRows, plan: &Plan) -> ClusterRows {
    let memory = |part: &rap_planner::NodePlan| LeafMemory {
        generation: part.generation,
        manifest_root: part.manifest.root(),
    };
    let leaves = plan.nodes.iter().map(|(node, part)| (*node, memory(part))).collect();
    ClusterRows { leaves, ..rows }
}

/// The nodes of `rows` that `before` does not have like this, those of `before` that are gone, and no leaf
/// that the plan of `before` does not know itself.
fn changes(before: &ClusterRows, rows: &ClusterRows) -> ClusterRows {
    let ids: BTreeSet<NodeId> = rows.nodes.iter().map(|node| node.node).collect();
    let changed = rows.nodes.iter().filter(|node| !before.nodes.contains(node)).cloned().collect();
    let gone = before.nodes.iter().map(|node| node.node).filter(|node| !ids.contains(node)).collect();
    ClusterRows { nodes: changed, gone, leaves: BTreeMap::new(), ..rows.clone() }
}

fn key() -> MapKey {
    MapKey::from_bytes([9; 32])
}

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
    Arc::new(revoked.iter().fold(RevocationChain::default(), |chain, one| revoke(&chain, *one)))
}

/// The chain with one more record.
fn revoke(chain: &RevocationChain, (number, kind, at): (u32, RevocationKind, Wall)) -> RevocationChain {
    let (authority, signer) = authority();
    let node = node(number, None, 0);
    let generation = chain.revoked().get(&node.node).copied().unwrap_or(1);
    let key = KeyId::of(&node.node_public_key);
    let record = Revocation { kind, node: node.node, key, generation, reason: String::new() };
    let record = chain.sign_next(&record, &authority, &signer, &[], at).unwrap();
    chain.extended(&[record], &authority, &[]).unwrap()
}

fn node_set() -> impl Strategy<Value = Vec<NodeRow>> {
    proptest::collection::btree_map(1u32..40, (proptest::option::of(1u8..4), 0u8..4), 0..20).prop_map(
        |nodes| {
            nodes.into_iter().map(|(number, (organization, tag))| member(number, organization, tag)).collect()
        },
    )
}

/// A node that relays if its tag is 3.
fn member(number: u32, organization: Option<u8>, tag: u8) -> NodeRow {
    let capabilities = if tag == 3 { vec![Capability::RouteMesh] } else { vec![] };
    NodeRow { capabilities, ..node(number, organization, tag) }
}

/// Whether `one` may know `other`, said in another way than the planner says it.
fn sees(one: &NodeRow, other: &NodeRow) -> bool {
    let carries_for_all = |node: &NodeRow| node.organization.is_none() && !node.capabilities.is_empty();
    one.node != other.node
        && (one.organization == other.organization || carries_for_all(one) || carries_for_all(other))
}

/// One change: of which node, its organization and tag then, or that it is gone for good.
type Change = (u32, Option<(Option<u8>, u8)>);

fn steps() -> impl Strategy<Value = Vec<(bool, Vec<Change>)>> {
    let change = (1u32..24, proptest::option::weighted(0.8, (proptest::option::of(1u8..4), 0u8..4)));
    let step = (any::<bool>(), proptest::collection::vec(change, 0..4));
    proptest::collection::vec(step, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_made_of_changes_equals_one_of_all_rows(a in node_set(), steps in steps()) {
        let mut members: BTreeMap<u32, NodeRow> =
            a.into_iter().map(|node| (node.host_number, node)).collect();
        let mut gone: BTreeSet<u32> = BTreeSet::new();
        let mut revocations: Arc<RevocationChain> = Arc::default();
        let mut known_rows = rows(1, members.values().cloned().collect());
        let mut known = plan(&known_rows, &key()).unwrap();
        let mut newest = known.clone();
        for (version, (followed, changes_of_step)) in (2..).zip(steps) {
            for (number, change) in changes_of_step {
                match change {
                    Some((organization, tag)) if !gone.contains(&number) => {
                        members.insert(number, member(number, organization, tag));
                    }
                    None if members.remove(&number).is_some() => {
                        gone.insert(number);
                        revocations = Arc::new(revoke(&revocations, (number, RevocationKind::Banned, NOW)));
                    }
                    Some(_) | None => {}
                }
            }
            let all = ClusterRows {
                revocations: revocations.clone(),
                gone: gone.iter().map(|number| NodeId::from_bytes([*number as u8; 16])).collect(),
                ..rows(version, members.values().cloned().collect())
            };
            let all = remember(all, &newest);
            let scratch = plan(&all, &key()).unwrap();
            // What heads of other replicas changed since this replica's plan.
            let others = all.leaves.iter().filter(|(_, leaf)| leaf.generation > known.version.0);
            let touched = ClusterRows {
                leaves: others.map(|(node, leaf)| (*node, *leaf)).collect(),
                ..changes(&known_rows, &all)
            };
            let next = known.next(&touched, &key()).unwrap().expect("within every limit");
            prop_assert_eq!(next.tree.root(), scratch.tree.root());
            prop_assert_eq!(&next.tree, &scratch.tree);
            prop_assert_eq!(&next.nodes, &scratch.nodes);
            prop_assert_eq!(&next.chunks, &scratch.chunks);
            newest = scratch;
            if followed {
                (known, known_rows) = (next, all);
            }
        }
    }

}

proptest! {
    #[test]
    fn updates_lead_to_the_plan_and_carry_no_chunk_outside_the_scope(a in node_set(), b in node_set()) {
        let first = plan(&rows(1, a), &key()).unwrap();
        let second_rows = remember(rows(2, b), &first);
        let second = plan(&second_rows, &key()).unwrap();
        for (id, target) in &second.nodes {
            let known = first.nodes.get(id);
            let update = second.update(*id, known, b"head").unwrap();
            let held = known.map(|known| known.manifest.to_manifest()).unwrap_or_default();
            let reached = held.apply(&update.slots_set, &update.slots_removed).unwrap();
            prop_assert_eq!(reached.root(), target.manifest.root());
            prop_assert_eq!(&reached, &target.manifest.to_manifest());
            let new: BTreeSet<_> = update.slots_set.iter().map(|slot| slot.chunk_id.clone()).collect();
            let sent: BTreeSet<_> =
                update.chunks.iter().map(|chunk| rap_contract::chunk_id(chunk).to_vec()).collect();
            prop_assert_eq!(new, sent, "a chunk travels for each slot that is set, and no other one");
        }
    }

    #[test]
    fn a_node_never_holds_a_record_it_may_not_see(nodes in node_set()) {
        let plan = plan(&rows(1, nodes.clone()), &key()).unwrap();
        let by_id: BTreeMap<NodeId, &NodeRow> = nodes.iter().map(|node| (node.node, node)).collect();
        for (id, part) in &plan.nodes {
            for (other, row) in &by_id {
                let slot = rap_contract::peer_slot(*other);
                prop_assert_eq!(part.manifest.chunk(&slot).is_some(), sees(by_id[id], row));
                prop_assert_eq!(plan.knows(*id, *other), sees(by_id[id], row));
                let sent = part.manifest.to_wire().iter().any(|sent| sent.key == slot);
                prop_assert_eq!(sent, sees(by_id[id], row));
            }
            let own = part.manifest.chunk(rap_contract::ASSIGNMENT_SLOT).unwrap();
            let holders = plan.nodes.values().filter(|other| other.manifest.chunk(rap_contract::ASSIGNMENT_SLOT) == Some(own));
            prop_assert_eq!(holders.count(), 1, "an assignment is of one node");
        }
    }
}

#[test]
fn a_change_of_one_nodes_own_scope_moves_that_leaf_only() {
    let nodes: Vec<NodeRow> = (1..=8).map(|number| node(number, None, 0)).collect();
    let before = rows(1, nodes.clone());
    let first = plan(&before, &key()).unwrap();
    let mut changed = remember(rows(2, nodes), &first);
    changed.nodes[2].tags = vec!["edge".into()];
    let second = first.next(&changes(&before, &changed), &key()).unwrap().unwrap();
    for (id, part) in &second.nodes {
        let moved = Some(part.leaf_hash) != first.nodes.get(id).map(|part| part.leaf_hash);
        assert_eq!(moved, *id == changed.nodes[2].node);
    }
    assert_eq!(second.nodes.get(&changed.nodes[2].node).unwrap().generation, 2);
}

#[test]
fn what_exceeds_a_limit_is_left_out_and_a_revocation_is_published_all_the_same() {
    let limits = Limits { peers: 3, ..Limits::default() };
    let nodes: Vec<NodeRow> = (1..=4).map(|number| node(number, None, 0)).collect();
    let full = ClusterRows { limits, ..rows(1, nodes.clone()) };
    let first = plan(&full, &key()).unwrap();
    assert!(first.left_out.is_empty());
    let more = ClusterRows { limits, ..rows(2, (1..=6).map(|number| node(number, None, 0)).collect()) };
    let more = remember(more, &first);
    assert!(first.next(&changes(&full, &more), &key()).unwrap().is_none(), "every row is needed");
    let second = plan(&more, &key()).unwrap();
    let id = |number: u8| NodeId::from_bytes([number; 16]);
    assert_eq!(second.left_out, BTreeMap::from([(id(5), LeftOut::Node), (id(6), LeftOut::Node)]));
    assert_eq!(second.nodes.len(), 4);
    let revoked = ClusterRows {
        revocations: chain(&[(2, RevocationKind::Banned, NOW)]),
        gone: vec![id(2)],
        nodes: more.nodes.iter().filter(|node| node.node != id(2)).cloned().collect(),
        version: Version(3),
        ..remember(more, &second)
    };
    let third = plan(&revoked, &key()).unwrap();
    assert!(third.nodes.get(&id(2)).is_none(), "the revoked node is out");
    assert_eq!(third.left_out, BTreeMap::from([(id(6), LeftOut::Node)]), "and its place is taken");
    let trust = third.nodes.get(&id(1)).unwrap().manifest.chunk(rap_contract::TRUST_SLOT).unwrap();
    let before = second.nodes.get(&id(1)).unwrap().manifest.chunk(rap_contract::TRUST_SLOT).unwrap();
    assert_ne!(trust, before);
}

#[test]
fn a_full_update_at_the_limit_is_below_it_as_it_travels() {
    use prost::Message as _;
    let limits = Limits { update_bytes: 24_000, ..Limits::default() };
    let nodes = (1..=30).map(|number| node(number, None, 0)).collect();
    let plan = plan(&ClusterRows { limits, ..rows(1, nodes) }, &key()).unwrap();
    assert!(!plan.left_out.is_empty() && plan.nodes.len() > 4, "{}", plan.nodes.len());
    for node in plan.nodes.keys() {
        let update = plan.update(*node, None, &[0; 1024]).unwrap();
        assert!(update.encoded_len() <= limits.update_bytes, "{}", update.encoded_len());
    }
}

#[test]
fn shared_and_outside_host_numbers_are_refused() {
    let shared = rows(1, vec![node(1, None, 0), NodeRow { host_number: 1, ..node(2, None, 0) }]);
    assert_eq!(plan(&shared, &key()).unwrap_err(), PlanError::HostNumberShared(1));
    let outside = rows(1, vec![NodeRow { host_number: 70_000, ..node(1, None, 0) }]);
    assert!(matches!(plan(&outside, &key()).unwrap_err(), PlanError::HostNumber(_)));
}

mod revocations {
    use super::*;

    use prost::Message as _;
    use rap_contract::TRUST_SLOT;

    fn trust(plan: &Plan) -> v1::TrustChunk {
        let node = plan.nodes.values().next().unwrap();
        let chunk = plan.chunks.get(&node.manifest.chunk(TRUST_SLOT).unwrap()).unwrap();
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
        let told = trust(&plan(&rows, &key()).unwrap());
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
            plan(&rows, &key()).map(|_| ())
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
            plan(&ClusterRows { revocations: revocations.clone(), ..rows(3, vec![member]) }, &key())
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
        let told = trust(&plan(&rows, &key()).unwrap());
        assert_eq!(told.revoked.iter().map(|one| one.node_id[0]).collect::<Vec<_>>(), [3]);
        assert_eq!(told.revocation_sequence, 2);
    }
}
