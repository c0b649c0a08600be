//! The bytes under a row's MAC are a format: rows that an earlier release sealed must go on to verify.
//!
//! Owns one fixed row of every type with a MAC, and the MACs that the first insert and a change write.

use rap_contract::KeyState;
use rap_types::{IdentityStatus, JoinState, Role, Wall};
use serde_json::json;

use super::fixture::{authority, ca, claim, cluster, id, keys, node, request, token};
use super::rows::everything;
use crate::authentic::Authentic;
use crate::tables::addresses::AddressRow;
use crate::*;

/// Table and MAC at version 3 of a row in which every column has a value of its own.
const GOLDEN: &[(&str, &str)] = &[
    ("clusters", "4baf3f5cd14bc706cc1ae6e9e333385bf8dbfd00f09732408b2bb2ec0cd70518"),
    ("cluster_policies", "fb2741870cef8ab73437804f48b75a513797813dba842a09c68bdf542f9b6beb"),
    ("cluster_authorities", "416205ba4c834d6b09a65a28b0f10dc56d7321bc425870cefcf082640b86105c"),
    ("cluster_cas", "87eb058c32a7ea3f97f8a2866ef2efc02a680f6fba833183c86e2743282e0bea"),
    ("join_tokens", "9eaa9bdfa973d36af26dff5da1b6cec99c77d88674bcf43c042a544b643ef5af"),
    ("join_requests", "385f7a7917494622107464f24b039a010fdb8f9012c385b6a07006cb4eac66d2"),
    ("node_addresses", "3fb94b59739858057641d108dcaf64de3d7a5bd7fbfcf88ac8196180c3f7515c"),
    ("nodes", "26a0b9b6b3176115ddb9d4367ac599df79027c71141bafe998a6c92028c6ba6d"),
    ("idempotency_keys", "ac393c135ff2792d27d81f04606393e4e9709f136df9da8aa087cc19a2192b0f"),
    ("operators", "7891f0a70ee414953ad3feb88c075a539852813fdc015258344f9363971725a4"),
    ("organizations", "119b7b9ae219003f39a1a3e698de23ee8a4c90e4d8e8338056bb51021b0412c8"),
    ("organization_members", "67fc2ed75eadca6635440c3be9c818f98867fda6338a262652d401739fea6553"),
];

/// Table, version and MAC of the rows that [`everything`] writes.
const GOLDEN_STORED: &[(&str, i64, &str)] = &[
    ("clusters", 1, "831d98024d85dc664c273847b1f4e2cd298ba670282738810888282ea37b9aea"),
    ("cluster_policies", 1, "6f12156d4163daea457a5d2cde91fd8e0ca69f64ae8c9b2dcb0d134be2686861"),
    ("cluster_authorities", 1, "51be430fd1e78bb31e405a36422ad12f7c568cc516ee284f76f3f04fef0b78fc"),
    ("cluster_cas", 1, "119a5a1185e3cf4d0d3eaba4859269ab60d30ced35a3ed6be216634ed0cc11da"),
    ("join_tokens", 2, "c96fcdac2e2d6b5b955fe10da01e9152de7879d7b771f356183735eb33c7d870"),
    ("join_requests", 2, "7ded8a6c110fb1436f080d9d13e91cdef8a4a8f17a7f177f22c1cfd0e3d7ef8a"),
    ("node_addresses", 1, "7355b2e55481975ce53c2d2b9f702007f1c96c6a4d509a1c9b0aa5cd6815f410"),
    ("nodes", 1, "26f8bb3b989a678fd0cf35148c5609b4bdfa62fc7def4f39b1373a85991e42eb"),
    ("idempotency_keys", 1, "ea1ae16e1ea1d4e1b65482f90b00d0bdb67f49a1a6a2300511a8d7d90749462d"),
    ("operators", 1, "6d92ceaa2bc48c795ae4d2a81bf89d918a07042bb271c13c5471d1a17a5d07b2"),
    ("organizations", 1, "fd297f8f578678b3c7867aa755494ccc10288ee29dd0c418195a2d9b21470984"),
    ("organization_members", 1, "b4a79e77f258147e4e683de9488886e45564a2afeef4021ab093d3ab67b76e0c"),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac<R: Authentic>(row: &R) -> (&'static str, String) {
    (R::TABLE, hex(&row.mac(&keys(), 3)))
}

#[test]
fn the_mac_of_every_row_type_is_what_it_was() {
    let node = NodeRow {
        node: NewNodeRow {
            roles: vec![Role::RelayNode, Role::Core, Role::RelayNode],
            ephemeral: true,
            facts: NodeFacts {
                link_endpoints: vec!["192.0.2.1:7443".into(), "192.0.2.2:7443".into()],
                wireguard_endpoints: vec!["192.0.2.1:51820".into()],
                region: "eu".into(),
                tags: vec!["rack:2".into(), "rack:1".into()],
                capabilities: vec!["can_route_mesh".into()],
            },
            ..node(4, Some(id(5)), 77)
        },
        identity_status: IdentityStatus::Draining,
        key_generation: 6,
        created_at: Wall(1),
        contact: None,
    };
    let request = JoinRequestRow {
        request: request(7, Some(id(5))),
        state: JoinState::Approved,
        node: Some(id(4)),
        reason: Some("by hand".into()),
        contract: Some(vec![8; 90]),
        requested_at: Wall(1),
        decided_at: Some(Wall(2)),
    };
    let body = json!({"mtu": 1280, "list": [1, {"b": 2, "a": "x"}], "none": null});
    let found = [
        mac(&ClusterRow { cluster: cluster(), config_seq: 9, created_at: Wall(1) }),
        mac(&PolicyRow { cluster: id(1), kind: "dataplane".into(), body }),
        mac(&authority(2, KeyState::Tainted)),
        mac(&ca()),
        mac(&TokenRow {
            token: NewTokenRow { ephemeral: true, ..token(Some(id(5)), 9) },
            uses: 3,
            revoked_at: Some(Wall(1_700_000_000_123)),
            created_at: Wall(1),
        }),
        mac(&request),
        mac(&AddressRow { cluster: id(1), host_number: 77, node: id(4), released_at: Some(Wall(5)) }),
        mac(&node),
        mac(&claim()),
        mac(&OperatorRow {
            operator: id(7),
            name: "ann".into(),
            public_key: [8; 32],
            platform_role: "platform_owner".into(),
            disabled_at: Some(Wall(-5)),
        }),
        mac(&OrganizationRow { organization: id(5), name: "alpha".into() }),
        mac(&MemberRow {
            organization: id(5),
            member: uuid::Uuid::from_bytes([6; 16]),
            name: "bob".into(),
            organization_role: "organization_owner".into(),
        }),
    ];
    let golden: Vec<_> = GOLDEN.iter().map(|(table, mac)| (*table, (*mac).to_owned())).collect();
    assert_eq!(found.as_slice(), golden);
}

#[tokio::test]
async fn what_is_stored_has_the_mac_it_had() {
    let (_database, mut owner) = everything().await;
    let mut found = Vec::new();
    for (table, ..) in GOLDEN_STORED {
        let text = format!("SELECT row_version::bigint, row_mac::bytea FROM {table}");
        let (version, mac): (i64, Vec<u8>) = one(&mut owner, text).await;
        found.push((*table, version, hex(&mac)));
    }
    let golden: Vec<_> =
        GOLDEN_STORED.iter().map(|(table, version, mac)| (*table, *version, (*mac).to_owned())).collect();
    assert_eq!(found, golden);
}

#[allow(clippy::disallowed_types, reason = "the table is one of the list above")]
async fn one(connection: &mut PgConnection, text: String) -> (i64, Vec<u8>) {
    sqlx::query_as(sqlx::AssertSqlSafe(text)).fetch_one(connection).await.unwrap()
}
