-- From committed rows to signed heads: the outbox says what changed, heads and leaves say what was
-- signed, idempotency keys say what was already answered.

CREATE TABLE config_outbox (
    cluster_id uuid NOT NULL REFERENCES clusters,
    seq rap_counter NOT NULL CHECK (seq > 0),
    touched text[] NOT NULL,
    urgent boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cluster_id, seq)
);

-- Bytes and signature in one row, inserted together, never changed.
CREATE TABLE cluster_heads (
    cluster_id uuid NOT NULL REFERENCES clusters,
    incarnation rap_counter NOT NULL,
    version rap_counter NOT NULL,
    refresh rap_counter NOT NULL,
    envelope rap_envelope NOT NULL,
    root rap_sha256 NOT NULL,
    digest rap_sha256 NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cluster_id, incarnation, version, refresh)
);

-- What the newest first head of a version said of a node. Salt and position follow from the map key.
CREATE TABLE node_leaves (
    cluster_id uuid NOT NULL,
    node_id uuid NOT NULL,
    incarnation rap_counter NOT NULL,
    node_generation rap_counter NOT NULL,
    manifest_root rap_sha256 NOT NULL,
    PRIMARY KEY (cluster_id, node_id),
    FOREIGN KEY (cluster_id, node_id) REFERENCES nodes (cluster_id, node_id)
);

CREATE TABLE idempotency_keys (
    actor rap_text NOT NULL,
    idempotency_key rap_text NOT NULL,
    request_digest rap_sha256 NOT NULL,
    answer bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (actor, idempotency_key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- The latest observation per (reporter, peer, observation type, route): none overwrites another's.
CREATE TABLE mesh_latest_links (
    cluster_id uuid NOT NULL REFERENCES clusters,
    reporter_node_id uuid NOT NULL,
    peer_node_id uuid NOT NULL,
    observation_type text NOT NULL
        CHECK (observation_type IN ('synthetic_route_health', 'peer_connection_manager')),
    route rap_text NOT NULL DEFAULT '',
    observation jsonb NOT NULL,
    observed_at timestamptz NOT NULL,
    PRIMARY KEY (cluster_id, reporter_node_id, peer_node_id, observation_type, route),
    FOREIGN KEY (cluster_id, reporter_node_id) REFERENCES nodes (cluster_id, node_id),
    FOREIGN KEY (cluster_id, peer_node_id) REFERENCES nodes (cluster_id, node_id)
);

CREATE TABLE route_path_decisions (
    cluster_id uuid NOT NULL REFERENCES clusters,
    source_node_id uuid NOT NULL,
    destination_node_id uuid NOT NULL,
    channel_class text NOT NULL,
    generation rap_counter NOT NULL,
    path uuid[] NOT NULL,
    reason rap_text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cluster_id, source_node_id, destination_node_id, channel_class, generation),
    FOREIGN KEY (cluster_id, source_node_id) REFERENCES nodes (cluster_id, node_id),
    FOREIGN KEY (cluster_id, destination_node_id) REFERENCES nodes (cluster_id, node_id)
);

ALTER TABLE config_outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE config_outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON config_outbox TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON config_outbox TO rap_system;

ALTER TABLE cluster_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE cluster_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY system_read ON cluster_heads FOR SELECT TO rap_system USING (true);
CREATE POLICY system_insert ON cluster_heads FOR INSERT TO rap_system WITH CHECK (true);
-- Only idle re-signs may go; the chain of first heads stays for ever.
CREATE POLICY system_prune ON cluster_heads FOR DELETE TO rap_system USING (refresh > 0);
GRANT SELECT, INSERT, DELETE ON cluster_heads TO rap_system;

ALTER TABLE node_leaves ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_leaves FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON node_leaves TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON node_leaves TO rap_system;

ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON idempotency_keys TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO rap_system;

ALTER TABLE mesh_latest_links ENABLE ROW LEVEL SECURITY;
ALTER TABLE mesh_latest_links FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON mesh_latest_links TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON mesh_latest_links TO rap_system;

ALTER TABLE route_path_decisions ENABLE ROW LEVEL SECURITY;
ALTER TABLE route_path_decisions FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON route_path_decisions TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON route_path_decisions TO rap_system;

-- security_invoker: the reader's policies apply, not the owner's.
CREATE VIEW cluster_admin_summaries WITH (security_invoker = true) AS
SELECT
    c.cluster_id,
    c.name,
    c.incarnation,
    c.config_seq,
    (SELECT count(*) FROM nodes n WHERE n.cluster_id = c.cluster_id AND n.identity_status = 'active')
        AS nodes_active,
    (SELECT count(*) FROM join_requests r WHERE r.cluster_id = c.cluster_id AND r.state = 'pending')
        AS requests_pending,
    (SELECT count(*) FROM join_tokens t
     WHERE t.cluster_id = c.cluster_id AND t.revoked_at IS NULL AND t.uses < t.max_uses
         AND t.expires_at > clock_timestamp()) AS tokens_live,
    (SELECT max(h.version) FROM cluster_heads h
     WHERE h.cluster_id = c.cluster_id AND h.incarnation = c.incarnation) AS head_version
FROM clusters c;
GRANT SELECT ON cluster_admin_summaries TO rap_system;
