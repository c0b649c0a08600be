-- When this database was put back from a backup. Whoever grants leases waits after the newest of these until no lease of the time before
-- can be alive.

CREATE TABLE restores (
    restore_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    backup_made_at timestamptz NOT NULL,
    restored_at timestamptz NOT NULL
);

ALTER TABLE restores ENABLE ROW LEVEL SECURITY;
ALTER TABLE restores FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON restores TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT ON restores TO rap_system;
