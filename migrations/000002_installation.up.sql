-- The installation, its operators and their sessions. No organization sees any of it.

CREATE TABLE installation_authority (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    installation_id uuid NOT NULL,
    mode rap_authority_mode NOT NULL,
    public_key rap_public_key NOT NULL,
    sealed_private_key rap_sealed NOT NULL,
    tls_ca_cert_der bytea NOT NULL,
    sealed_tls_ca_key rap_sealed NOT NULL,
    activation_request rap_envelope NOT NULL,
    activation_nonce bytea NOT NULL CHECK (octet_length(activation_nonce) = 32),
    activation_manifest rap_envelope,
    activated_at timestamptz,
    control_urls text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    CHECK ((activation_manifest IS NULL) = (activated_at IS NULL))
);

CREATE TABLE platform_role_grants (
    grant_digest rap_sha256 PRIMARY KEY,
    subject_key rap_public_key NOT NULL,
    platform_role text NOT NULL CHECK (platform_role IN ('platform_owner', 'platform_admin', 'recovery')),
    envelope rap_envelope NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac
);

CREATE TABLE operators (
    operator_id uuid PRIMARY KEY,
    name rap_text NOT NULL,
    public_key rap_public_key NOT NULL,
    platform_role text NOT NULL CHECK (platform_role IN ('platform_owner', 'platform_admin', 'recovery')),
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    CONSTRAINT operators_name UNIQUE (name),
    CONSTRAINT operators_public_key UNIQUE (public_key)
);

CREATE TABLE operator_sessions (
    token_hash rap_sha256 PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operators,
    operator_public_key rap_public_key NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    CHECK (expires_at <= created_at + interval '12 hours 1 minute')
);
CREATE INDEX operator_sessions_expiry ON operator_sessions (expires_at);

ALTER TABLE installation_authority ENABLE ROW LEVEL SECURITY;
ALTER TABLE installation_authority FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON installation_authority TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON installation_authority TO rap_system;
GRANT UPDATE (activation_manifest, activated_at, control_urls, row_version, row_mac)
    ON installation_authority TO rap_system;

ALTER TABLE platform_role_grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE platform_role_grants FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON platform_role_grants TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON platform_role_grants TO rap_system;

ALTER TABLE operators ENABLE ROW LEVEL SECURITY;
ALTER TABLE operators FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON operators TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON operators TO rap_system;

ALTER TABLE operator_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE operator_sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON operator_sessions TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON operator_sessions TO rap_system;
