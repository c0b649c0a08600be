-- What was done, by whom. Rows are added in the transaction of the change and never altered; the
-- sequencer later fills `sequence` (leaf index of the audit tree, in commit order), once.

CREATE TABLE audit_log (
    entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sequence rap_counter,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cluster_id uuid REFERENCES clusters,
    organization_id uuid REFERENCES organizations,
    actor rap_text NOT NULL,
    action rap_text NOT NULL,
    object rap_text NOT NULL,
    before_digest rap_sha256,
    after_digest rap_sha256,
    reason rap_text NOT NULL DEFAULT '',
    request_id uuid NOT NULL,
    row_mac rap_mac,
    CONSTRAINT audit_log_sequence UNIQUE (sequence)
);
CREATE INDEX audit_log_organization ON audit_log (organization_id, entry_id);

ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;
CREATE POLICY system_read ON audit_log FOR SELECT TO rap_system USING (true);
CREATE POLICY system_insert ON audit_log FOR INSERT TO rap_system WITH CHECK (sequence IS NULL);
CREATE POLICY system_sequence ON audit_log FOR UPDATE TO rap_system
    USING (sequence IS NULL) WITH CHECK (sequence IS NOT NULL);
CREATE POLICY own_organization ON audit_log FOR SELECT TO rap_app USING (organization_id = app_organization());
GRANT SELECT, INSERT ON audit_log TO rap_system;
GRANT UPDATE (sequence) ON audit_log TO rap_system;
GRANT SELECT (entry_id, recorded_at, organization_id, actor, action, object, reason, request_id)
    ON audit_log TO rap_app;
