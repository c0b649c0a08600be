-- Join tokens and requests to join. A row without an organization is the platform's own.

CREATE TABLE join_tokens (
    token_id uuid PRIMARY KEY,
    cluster_id uuid NOT NULL REFERENCES clusters,
    organization_id uuid REFERENCES organizations,
    envelope rap_envelope NOT NULL,
    secret_hash rap_sha256 NOT NULL,
    approval rap_approval_mode NOT NULL,
    roles text[] NOT NULL,
    tags text[] NOT NULL,
    ephemeral boolean NOT NULL,
    max_uses rap_counter NOT NULL CHECK (max_uses > 0),
    uses rap_counter NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    CONSTRAINT join_tokens_uses CHECK (uses <= max_uses),
    CONSTRAINT join_tokens_in_cluster UNIQUE (cluster_id, token_id)
);
CREATE INDEX join_tokens_organization ON join_tokens (organization_id, token_id);

CREATE TABLE join_requests (
    request_id uuid PRIMARY KEY,
    cluster_id uuid NOT NULL,
    organization_id uuid REFERENCES organizations,
    token_id uuid NOT NULL,
    node_public_key rap_public_key NOT NULL,
    wireguard_public_key rap_public_key NOT NULL,
    nonce bytea NOT NULL CHECK (octet_length(nonce) = 32),
    name rap_text NOT NULL,
    facts jsonb NOT NULL,
    advertise jsonb NOT NULL,
    source rap_text NOT NULL,
    state rap_join_state NOT NULL DEFAULT 'pending',
    node_id uuid,
    reason rap_text,
    contract rap_envelope,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at timestamptz,
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    FOREIGN KEY (cluster_id, token_id) REFERENCES join_tokens (cluster_id, token_id),
    CONSTRAINT join_requests_token_key UNIQUE (token_id, node_public_key),
    CHECK ((state = 'pending') = (decided_at IS NULL)),
    CHECK ((state = 'approved') = (node_id IS NOT NULL)),
    CHECK ((state = 'approved') = (contract IS NOT NULL))
);
CREATE INDEX join_requests_pending ON join_requests (cluster_id, request_id) WHERE state = 'pending';

ALTER TABLE join_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE join_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON join_tokens TO rap_system USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON join_tokens TO rap_app
    USING (organization_id = app_organization()) WITH CHECK (organization_id = app_organization());
GRANT SELECT, INSERT ON join_tokens TO rap_system;
GRANT UPDATE (uses, revoked_at, row_version, row_mac) ON join_tokens TO rap_system;
GRANT SELECT (token_id, organization_id, approval, max_uses, uses, expires_at, revoked_at, created_at)
    ON join_tokens TO rap_app;

ALTER TABLE join_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE join_requests FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON join_requests TO rap_system USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON join_requests TO rap_app
    USING (organization_id = app_organization()) WITH CHECK (organization_id = app_organization());
GRANT SELECT, INSERT, UPDATE ON join_requests TO rap_system;
GRANT SELECT (request_id, organization_id, name, state, reason, requested_at, decided_at)
    ON join_requests TO rap_app;
