-- Nodes. What feeds a signature (nodes, node_roles, node_addresses) is apart from what changes by
-- itself (node_contacts), so that a heartbeat never touches an authenticated row.

-- Host numbers in use, and those given back within the last seven days.
CREATE TABLE node_addresses (
    cluster_id uuid NOT NULL REFERENCES clusters,
    host_number rap_counter NOT NULL CHECK (host_number > 0),
    node_id uuid NOT NULL,
    assigned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_at timestamptz,
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    CONSTRAINT node_addresses_host_number PRIMARY KEY (cluster_id, host_number)
);
CREATE INDEX node_addresses_released ON node_addresses (cluster_id, released_at) WHERE released_at IS NOT NULL;

CREATE TABLE nodes (
    node_id uuid PRIMARY KEY,
    cluster_id uuid NOT NULL REFERENCES clusters,
    organization_id uuid REFERENCES organizations,
    name rap_name NOT NULL,
    node_public_key rap_public_key NOT NULL,
    wireguard_public_key rap_public_key NOT NULL,
    identity_status rap_identity_status NOT NULL,
    host_number rap_counter NOT NULL CHECK (host_number > 0),
    link_endpoints text[] NOT NULL DEFAULT '{}',
    wireguard_endpoints text[] NOT NULL DEFAULT '{}',
    region rap_text NOT NULL DEFAULT '',
    tags text[] NOT NULL DEFAULT '{}',
    capabilities text[] NOT NULL DEFAULT '{}',
    ephemeral boolean NOT NULL DEFAULT false,
    key_generation rap_counter NOT NULL DEFAULT 1 CHECK (key_generation > 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    CONSTRAINT nodes_in_cluster UNIQUE (cluster_id, node_id),
    CONSTRAINT nodes_address FOREIGN KEY (cluster_id, host_number) REFERENCES node_addresses,
    -- For ever: a revoked key never returns.
    CONSTRAINT nodes_public_key UNIQUE (cluster_id, node_public_key)
);
CREATE UNIQUE INDEX nodes_name ON nodes (cluster_id, name) WHERE identity_status NOT IN ('revoked', 'left');
CREATE UNIQUE INDEX nodes_wireguard_key ON nodes (cluster_id, wireguard_public_key)
    WHERE identity_status NOT IN ('revoked', 'left');
CREATE UNIQUE INDEX nodes_host_number ON nodes (cluster_id, host_number)
    WHERE identity_status NOT IN ('revoked', 'left');
CREATE INDEX nodes_organization ON nodes (organization_id, node_id);

ALTER TABLE join_requests ADD CONSTRAINT join_requests_node
    FOREIGN KEY (cluster_id, node_id) REFERENCES nodes (cluster_id, node_id);

CREATE TABLE node_roles (
    node_id uuid NOT NULL REFERENCES nodes,
    role text NOT NULL CHECK (role ~ '^[a-z][a-z-]{0,62}$'),
    assigned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    PRIMARY KEY (node_id, role)
);

-- Written by heartbeats and acknowledgements; lost rows cost nothing but a display.
CREATE TABLE node_contacts (
    node_id uuid PRIMARY KEY REFERENCES nodes,
    last_seen_at timestamptz NOT NULL,
    agent_version rap_text NOT NULL DEFAULT '',
    acked_incarnation rap_counter NOT NULL DEFAULT 0,
    acked_version rap_counter NOT NULL DEFAULT 0,
    last_reject rap_text NOT NULL DEFAULT ''
) WITH (fillfactor = 50);

ALTER TABLE nodes ENABLE ROW LEVEL SECURITY;
ALTER TABLE nodes FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON nodes TO rap_system USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON nodes TO rap_app
    USING (organization_id = app_organization()) WITH CHECK (organization_id = app_organization());
GRANT SELECT, INSERT, UPDATE ON nodes TO rap_system;
-- Members see that their nodes exist and how they are: no key, no address, no endpoint.
GRANT SELECT (node_id, organization_id, name, identity_status, created_at) ON nodes TO rap_app;

ALTER TABLE node_roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_roles FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON node_roles TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON node_roles TO rap_system;

ALTER TABLE node_addresses ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_addresses FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON node_addresses TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON node_addresses TO rap_system;

ALTER TABLE node_contacts ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_contacts FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON node_contacts TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON node_contacts TO rap_system;
