//! Rows that hold what makes no sense.

use std::collections::BTreeMap;

use prost::Message as _;
use rap_contract::peer_slot;
use rap_planner::{ClusterRows, NodeRow, Plan, plan};
use rap_types::sense::Loopback;
use rap_wire::v1;

use super::{changes, key, node, remember, rows};

#[test]
fn what_of_a_row_makes_no_sense_is_left_out_of_the_record_and_neither_the_node_nor_the_plan() {
    let bad = NodeRow {
        link_endpoints: vec!["192.0.2.1:7443".into(), "169.254.169.254:80".into()],
        wireguard_endpoints: vec!["0.0.0.0:51820".into(), "127.0.0.1:51820".into()],
        wireguard_public_key: [0; 32],
        ..node(1, None, 0)
    };
    let sound = NodeRow {
        link_endpoints: vec!["192.0.2.2:7443".into()],
        wireguard_endpoints: Vec::new(),
        ..node(2, None, 0)
    };
    let before = ClusterRows { loopback: Loopback::Refused, ..rows(1, vec![bad.clone(), sound.clone()]) };
    let first = plan(&before, &key()).unwrap();
    assert_eq!(first.nodes.len(), 2, "both are planned");
    assert_eq!(first.senseless.keys().collect::<Vec<_>>(), [&bad.node]);
    let record = |plan: &Plan| {
        let id = plan.nodes.get(&sound.node).unwrap().manifest.chunk(&peer_slot(bad.node)).unwrap();
        match v1::Chunk::decode(&**plan.chunks.get(&id).unwrap()).unwrap().body {
            Some(v1::chunk::Body::Peer(peer)) => peer,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(record(&first).link_endpoints, ["192.0.2.1:7443"]);
    assert_eq!(record(&first).wireguard_endpoints, [] as [&str; 0]);
    assert!(record(&first).wireguard_public_key.is_empty(), "linked, and without a tunnel");
    // The row is put right: the next plan has it, and it is the plan of all rows.
    let right = NodeRow { link_endpoints: Vec::new(), wireguard_endpoints: Vec::new(), ..node(1, None, 0) };
    let after = ClusterRows { loopback: Loopback::Refused, ..rows(2, vec![right.clone(), sound.clone()]) };
    let second = first.next(&changes(&before, &after), &key()).unwrap().unwrap();
    assert_eq!(second.senseless, BTreeMap::new());
    assert_eq!(record(&second).wireguard_public_key, right.wireguard_public_key);
    assert_eq!(second.tree.root(), plan(&remember(after, &first), &key()).unwrap().tree.root());
}
