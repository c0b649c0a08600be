-- Clusters, their authorities, data keys and certificate authorities.

CREATE TABLE clusters (
    cluster_id uuid PRIMARY KEY,
    name rap_name NOT NULL,
    incarnation rap_counter NOT NULL CHECK (incarnation > 0),
    config_seq rap_counter NOT NULL DEFAULT 0,
    ipv4_pool cidr NOT NULL CHECK (family(ipv4_pool) = 4),
    next_host_number rap_counter NOT NULL DEFAULT 1 CHECK (next_host_number > 0),
    dev boolean NOT NULL,
    fresh_for_ms rap_milliseconds NOT NULL CHECK (fresh_for_ms > 0),
    refresh_every_ms rap_milliseconds NOT NULL CHECK (refresh_every_ms > 0),
    degraded_for_ms rap_milliseconds NOT NULL,
    leaf_lifetime_ms rap_milliseconds NOT NULL CHECK (leaf_lifetime_ms > 0),
    sealed_map_key rap_sealed NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    CONSTRAINT clusters_name UNIQUE (name),
    CHECK (refresh_every_ms < fresh_for_ms),
    CHECK (degraded_for_ms <= leaf_lifetime_ms / 2)
);

-- The chain of authority records, for ever: nodes that were away walk it.
CREATE TABLE cluster_authorities (
    cluster_id uuid NOT NULL REFERENCES clusters,
    sequence rap_counter NOT NULL CHECK (sequence > 0),
    record rap_envelope NOT NULL,
    public_key rap_public_key NOT NULL,
    sealed_private_key rap_sealed NOT NULL,
    state rap_key_state NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    PRIMARY KEY (cluster_id, sequence)
);
CREATE UNIQUE INDEX cluster_authorities_one_active ON cluster_authorities (cluster_id) WHERE state = 'active';

CREATE TABLE cluster_deks (
    cluster_id uuid NOT NULL REFERENCES clusters,
    key_version rap_counter NOT NULL CHECK (key_version > 0),
    wrapped_dek rap_sealed NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at timestamptz,
    PRIMARY KEY (cluster_id, key_version)
);

CREATE TABLE cluster_cas (
    cluster_id uuid NOT NULL REFERENCES clusters,
    generation rap_counter NOT NULL CHECK (generation > 0),
    cert_der bytea NOT NULL,
    sealed_key rap_sealed NOT NULL,
    state rap_key_state NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    PRIMARY KEY (cluster_id, generation)
);
CREATE UNIQUE INDEX cluster_cas_one_active ON cluster_cas (cluster_id) WHERE state = 'active';

CREATE TABLE cluster_policies (
    cluster_id uuid NOT NULL REFERENCES clusters,
    kind rap_name NOT NULL,
    body jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    PRIMARY KEY (cluster_id, kind)
);

ALTER TABLE clusters ENABLE ROW LEVEL SECURITY;
ALTER TABLE clusters FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON clusters TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON clusters TO rap_system;

ALTER TABLE cluster_authorities ENABLE ROW LEVEL SECURITY;
ALTER TABLE cluster_authorities FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON cluster_authorities TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON cluster_authorities TO rap_system;
GRANT UPDATE (state, sealed_private_key, row_version, row_mac) ON cluster_authorities TO rap_system;

ALTER TABLE cluster_deks ENABLE ROW LEVEL SECURITY;
ALTER TABLE cluster_deks FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON cluster_deks TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON cluster_deks TO rap_system;

ALTER TABLE cluster_cas ENABLE ROW LEVEL SECURITY;
ALTER TABLE cluster_cas FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON cluster_cas TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON cluster_cas TO rap_system;
GRANT UPDATE (state, sealed_key, row_version, row_mac) ON cluster_cas TO rap_system;

ALTER TABLE cluster_policies ENABLE ROW LEVEL SECURITY;
ALTER TABLE cluster_policies FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON cluster_policies TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON cluster_policies TO rap_system;
