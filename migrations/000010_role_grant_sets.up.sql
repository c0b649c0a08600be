-- The chain of signed role-grant sets. Bytes are written once, by the roles that serve never altered.
CREATE TABLE role_grant_sets (
    sequence rap_counter PRIMARY KEY CHECK (sequence > 0),
    set_digest rap_sha256 NOT NULL,
    envelope rap_envelope NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT role_grant_sets_digest UNIQUE (set_digest)
);

ALTER TABLE role_grant_sets ENABLE ROW LEVEL SECURITY;
ALTER TABLE role_grant_sets FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON role_grant_sets TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON role_grant_sets TO rap_system;

-- An operator who was shut out keeps the row; the name may be given again.
ALTER TABLE operators DROP CONSTRAINT operators_name;
CREATE UNIQUE INDEX operators_name ON operators (name) WHERE disabled_at IS NULL;
