-- Break-glass grants that nodes applied, as they told once they had contact again. One row per grant and
-- node: telling again changes nothing.

CREATE TABLE break_glass_uses (
    cluster_id uuid NOT NULL REFERENCES clusters,
    node_id uuid NOT NULL,
    grant_digest rap_sha256 NOT NULL,
    permit rap_text NOT NULL CHECK (permit IN ('extend_degraded', 'permit_peer')),
    signer rap_text NOT NULL CHECK (signer IN ('cluster-authority', 'product-root')),
    reason rap_text NOT NULL,
    expires_at timestamptz NOT NULL,
    applied_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cluster_id, node_id, grant_digest)
);

ALTER TABLE break_glass_uses ENABLE ROW LEVEL SECURITY;
ALTER TABLE break_glass_uses FORCE ROW LEVEL SECURITY;
CREATE POLICY system_read ON break_glass_uses FOR SELECT TO rap_system USING (true);
CREATE POLICY system_insert ON break_glass_uses FOR INSERT TO rap_system WITH CHECK (true);
GRANT SELECT, INSERT ON break_glass_uses TO rap_system;
