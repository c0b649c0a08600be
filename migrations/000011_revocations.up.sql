-- The signed chain of revocations: rows are added and never altered or removed by the roles that serve.
CREATE TABLE node_revocations (
    cluster_id uuid NOT NULL REFERENCES clusters,
    sequence rap_counter NOT NULL CHECK (sequence > 0),
    record rap_envelope NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cluster_id, sequence)
);

ALTER TABLE node_revocations ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_revocations FORCE ROW LEVEL SECURITY;
CREATE POLICY system_read ON node_revocations FOR SELECT TO rap_system USING (true);
CREATE POLICY system_insert ON node_revocations FOR INSERT TO rap_system WITH CHECK (true);
GRANT SELECT, INSERT ON node_revocations TO rap_system;

-- A key that must never return is in the chain. One whose node is gone may come back under another id.
ALTER TABLE nodes DROP CONSTRAINT nodes_public_key;
CREATE UNIQUE INDEX nodes_public_key ON nodes (cluster_id, node_public_key)
    WHERE identity_status NOT IN ('revoked', 'left');
CREATE INDEX nodes_gone_key ON nodes (cluster_id, node_public_key, node_id)
    WHERE identity_status IN ('revoked', 'left');
CREATE INDEX join_requests_node ON join_requests (token_id, node_id) WHERE node_id IS NOT NULL;
