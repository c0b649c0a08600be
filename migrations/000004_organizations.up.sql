-- Tenants and who belongs to them.

CREATE TABLE organizations (
    organization_id uuid PRIMARY KEY,
    name rap_name NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    CONSTRAINT organizations_name UNIQUE (name)
);

CREATE TABLE organization_members (
    organization_id uuid NOT NULL REFERENCES organizations,
    member_id uuid NOT NULL,
    name rap_text NOT NULL,
    organization_role rap_organization_role NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_version rap_counter NOT NULL DEFAULT 1,
    row_mac rap_mac,
    PRIMARY KEY (organization_id, member_id),
    CONSTRAINT organization_members_name UNIQUE (organization_id, name)
);

ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON organizations TO rap_system USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON organizations TO rap_app
    USING (organization_id = app_organization()) WITH CHECK (organization_id = app_organization());
GRANT SELECT, INSERT, UPDATE, DELETE ON organizations TO rap_system;
GRANT SELECT (organization_id, name, created_at) ON organizations TO rap_app;

ALTER TABLE organization_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE organization_members FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON organization_members TO rap_system USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON organization_members TO rap_app
    USING (organization_id = app_organization()) WITH CHECK (organization_id = app_organization());
GRANT SELECT, INSERT, UPDATE, DELETE ON organization_members TO rap_system;
GRANT SELECT ON organization_members TO rap_app;
