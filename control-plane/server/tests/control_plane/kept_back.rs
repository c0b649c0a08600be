//! A trigger that keeps the rows of a table back without an error is found before the commit: the act is not done.

use std::collections::BTreeSet;

use rap_types::Reason;
use rap_wire::v1;
use tonic::Status;

use crate::authority::key_request;
use crate::grants::{self, signer, sql};
use crate::host::Host;
use crate::world::{World, reason};

/// On every table: what is named in `kept_back` takes no insert, update or delete.
const TRIGGERS: &str = "
CREATE TABLE kept_back (name text);
CREATE FUNCTION keep_back() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM public.kept_back WHERE name = TG_TABLE_NAME) THEN RETURN NULL; END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $$;
DO $$
DECLARE of text;
BEGIN
    FOR of IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
        AND c.relname NOT IN ('kept_back', '_sqlx_migrations')
    LOOP
        EXECUTE format('CREATE TRIGGER zz_kept_back BEFORE INSERT OR UPDATE OR DELETE ON public.%I
            FOR EACH ROW EXECUTE FUNCTION keep_back()', of);
    END LOOP;
END $$;";

const NONE: &str = "DELETE FROM kept_back";

#[derive(Debug, Clone, Copy)]
enum Act {
    Cluster,
    Token,
    Join,
    Revoke,
    Grant,
    Login,
    Prepare,
    Accept,
}

/// Each table that acts write, with an act that does.
macro_rules! tables {
    ($($table:literal by $act:ident),+ $(,)?) => {
        const TABLES: &[(&str, Act, &str)] =
            &[$(($table, Act::$act, concat!("INSERT INTO kept_back VALUES ('", $table, "')"))),+];
    };
}

tables! {
    "clusters" by Cluster, "cluster_policies" by Cluster, "cluster_authorities" by Cluster, "cluster_cas" by Cluster,
    "cluster_deks" by Cluster, "join_tokens" by Token, "audit_log" by Token, "join_tokens" by Join,
    "join_requests" by Join, "nodes" by Join, "node_roles" by Join, "node_addresses" by Join, "config_outbox" by Join,
    "clusters" by Join, "nodes" by Revoke, "node_revocations" by Revoke, "node_addresses" by Revoke,
    "config_outbox" by Revoke, "operators" by Grant, "platform_role_grants" by Grant, "role_grant_sets" by Grant,
    "operator_sessions" by Login, "cluster_authority_prepared" by Prepare, "node_identities" by Accept,
}

/// Tables that no act writes: `init`, the publisher, the sequencer, the heartbeat and what nodes report do, or nobody.
const OF_NO_ACT: &[&str] = &[
    "installation_authority",
    "cluster_heads",
    "node_leaves",
    "audit_log_keys",
    "audit_checkpoints",
    "replica_heartbeats",
    "node_contacts",
    "node_authority_confirmations",
    "break_glass_uses",
    "idempotency_keys",
    "organizations",
    "organization_members",
    "mesh_latest_links",
    "route_path_decisions",
];

async fn act(world: &World, act: Act, name: &str, host: Option<&Host>) -> Result<(), Reason> {
    let done = |answer: Result<(), Status>| answer.map_err(reason);
    match act {
        Act::Cluster => {
            let request = v1::ClusterCreateRequest { name: name.into(), ..Default::default() };
            done(world.admin().await.cluster_create(world.request(request)).await.map(drop))
        }
        Act::Token => {
            let request = v1::TokenCreateRequest { cluster: "prod".into(), ..Default::default() };
            done(world.admin().await.token_create(world.request(request)).await.map(drop))
        }
        Act::Join => done(host.expect("a host").join(world).await.map(drop)),
        Act::Revoke => done(world.revoke(name, false).await.map(drop)),
        Act::Grant => grants::add(world, name, &signer(), "platform_admin").await.map(drop),
        Act::Login => grants::login(world, &world.owner).await.map(drop),
        Act::Accept => {
            let node = v1::NodeRef { cluster: "prod".into(), node: name.into() };
            done(world.admin().await.node_accept(world.request(node)).await.map(drop))
        }
        Act::Prepare => {
            done(world.authority().await.authority_prepare(world.request(key_request(&[]))).await.map(drop))
        }
    }
}

/// Every node is doubted.
const DOUBTS: &str = "INSERT INTO node_identities (node_id, key_generation, instance_id, replica_id, heard_at, doubt) \
    SELECT node_id, key_generation, node_id, node_id, clock_timestamp(), 'node.cloned' FROM nodes";

/// A token whose nodes have a role.
async fn token(world: &World) -> v1::TokenCreateAnswer {
    let request = v1::TokenCreateRequest {
        cluster: "prod".into(),
        auto_approve: true,
        roles: vec!["relay-node".into()],
        ..Default::default()
    };
    world.admin().await.token_create(world.request(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn an_act_of_which_a_row_is_kept_back_is_not_done() {
    let world = World::dev().await;
    world.cluster("prod").await;
    for number in 0..TABLES.len() {
        Host::new(&token(&world).await, &format!("n{number}")).enrol(&world).await;
    }
    sql(&world, TRIGGERS).await;
    for (number, (table, kind, keep_back)) in TABLES.iter().enumerate() {
        let name = match kind {
            Act::Revoke | Act::Accept => format!("n{number}"),
            _ => format!("new{number}"),
        };
        // A join makes its token first.
        let host = match kind {
            Act::Join => Some(Host::new(&token(&world).await, &name)),
            Act::Accept => {
                let database = world.database.as_ref().unwrap();
                database.tamper_all(&["nodes", "node_identities"], DOUBTS).await;
                None
            }
            _ => None,
        };
        sql(&world, keep_back).await;
        let refused = act(&world, *kind, &name, host.as_ref()).await;
        sql(&world, NONE).await;
        act(&world, *kind, &name, host.as_ref()).await.expect("nothing of it was left behind");
        assert_eq!(refused, Err(Reason::RowTampered), "{table} by {kind:?}");
    }
    let named: BTreeSet<&str> =
        TABLES.iter().map(|(table, ..)| *table).chain(OF_NO_ACT.iter().copied()).collect();
    let writable = world.database.as_ref().unwrap().written_tables().await;
    assert_eq!(writable.iter().map(String::as_str).collect::<BTreeSet<_>>(), named);
    world.stop().await;
}
