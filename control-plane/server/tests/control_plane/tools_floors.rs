//! Floors that a person confirms at a host.

use crate::grants::{RESTORED, audited};
use crate::tools::{edit_beside, said, two_nodes};
use crate::world::reason;
use rap_types::Reason;
use rap_wire::v1;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_revocations_are_shown_with_the_nodes_they_put_out() {
    let world = two_nodes().await;
    world.revoke("one", true).await.unwrap();
    // After a restore nothing is put back.
    edit_beside(&world, &["restores"], RESTORED).await;
    edit_beside(&world, &["node_revocations"], "DELETE FROM node_revocations").await;
    let shown = said(&world.data_dir, &["floors", "show", "--json"]);
    let put_out = &shown.document["clusters"][0]["put_out_by_lost_records"];
    assert_eq!(put_out[0]["name"], "one", "{}", shown.text);
    assert_eq!(shown.document["clusters"][0]["unknown_nodes"], Value::Array(Vec::new()));
    // Who makes the row unreadable hides nobody.
    edit_beside(&world, &["nodes"], "UPDATE nodes SET region = 'elsewhere' WHERE name = 'one'").await;
    let hidden = said(&world.data_dir, &["floors", "show", "--json"]);
    let unknown = &hidden.document["clusters"][0]["unknown_nodes"];
    assert_eq!(unknown[0], put_out[0]["node_id"], "{}", hidden.text);
    edit_beside(&world, &["nodes"], "UPDATE nodes SET region = '' WHERE name = 'one'").await;
    assert!(said(&world.data_dir, &["floors", "show"]).text.contains("put out by a record that is lost"));
    let request = v1::NodeRevokeRequest {
        cluster: "prod".into(),
        node: "two".into(),
        evict: false,
        reason: String::new(),
    };
    let refused = world.membership().await.node_revoke(world.request(request)).await.unwrap_err();
    assert_eq!(reason(refused), Reason::FloorRollback);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_whose_floor_is_confirmed_is_the_one_whose_own_row_has_the_name() {
    let world = two_nodes().await;
    let prod = world.running.replica.serving.clusters.named("prod").unwrap().id.to_string();
    world.cluster("lab").await;
    let confirm = |cluster: &str| {
        said(
            &world.data_dir,
            &["floors", "confirm", "--json", "--sequence", "0", "--lower", "--cluster", cluster],
        )
    };
    let names = |rows: &Value| -> Vec<Value> {
        rows["clusters"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect()
    };
    // The other cluster is called by this one's id, then by its name.
    edit_beside(
        &world,
        &["clusters"],
        "UPDATE clusters SET name = (SELECT cluster_id::text FROM clusters WHERE name = 'prod') WHERE name = 'lab'",
    )
    .await;
    let confirmed = confirm(&prod);
    assert_eq!(confirmed.exit, Some(0), "{}", confirmed.text);
    assert_eq!(audited(&world, "floors.confirm").await, [format!("cluster/{prod}/revocations")]);
    edit_beside(
        &world,
        &["clusters"],
        "UPDATE clusters SET name = 'else' WHERE name = 'prod'; UPDATE clusters SET name = 'prod' WHERE name <> 'else'",
    )
    .await;
    let refused = confirm("prod");
    assert!(refused.exit == Some(3) && refused.text.contains("resource.not_found"), "{}", refused.text);
    let shown = said(&world.data_dir, &["floors", "show", "--json"]);
    assert_eq!(names(&shown.document), [Value::Null, Value::Null], "{}", shown.text);
    assert_eq!(shown.document["clusters"][0]["refused"], "row.tampered");
    assert_eq!(audited(&world, "floors.confirm").await.len(), 1);
    world.stop().await;
}
