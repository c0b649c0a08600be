-- The audit tree: who sequences, how far it got, which keys sign, and every checkpoint ever signed.

ALTER TABLE audit_log ADD COLUMN device rap_text NOT NULL DEFAULT '';
CREATE INDEX audit_log_unsequenced ON audit_log (entry_id) WHERE sequence IS NULL;
CREATE INDEX audit_log_cluster ON audit_log (cluster_id, entry_id);
-- The number is part of what the row's MAC covers, so it is drawn before the row is written.
GRANT USAGE ON SEQUENCE audit_log_entry_id_seq TO rap_system;

-- One record per life of the log; the installation authority vouches for each key.
CREATE TABLE audit_log_keys (
    generation rap_counter PRIMARY KEY CHECK (generation > 0),
    record rap_envelope NOT NULL,
    public_key rap_public_key NOT NULL,
    sealed_private_key rap_sealed NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row: the sequencer's lease, its fencing number, and the tree up to the last sequenced row.
-- Every write of a sequencer is conditional on its fence.
CREATE TABLE audit_tree (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    size rap_counter NOT NULL DEFAULT 0,
    frontier bytea NOT NULL DEFAULT ''::bytea CHECK (octet_length(frontier) % 32 = 0),
    holder uuid,
    fence rap_counter NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO audit_tree DEFAULT VALUES;

-- Append-only: one root for a size of a generation, for ever.
CREATE TABLE audit_checkpoints (
    generation rap_counter NOT NULL REFERENCES audit_log_keys,
    size rap_counter NOT NULL,
    root rap_sha256 NOT NULL,
    note bytea NOT NULL CHECK (octet_length(note) BETWEEN 1 AND 4096),
    fence rap_counter NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (generation, size)
);

ALTER TABLE audit_log_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON audit_log_keys TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON audit_log_keys TO rap_system;
-- Sealed anew when the key encryption key changes.
GRANT UPDATE (sealed_private_key) ON audit_log_keys TO rap_system;

ALTER TABLE audit_tree ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_tree FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON audit_tree TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT ON audit_tree TO rap_system;
GRANT UPDATE (size, frontier, holder, fence, lease_until) ON audit_tree TO rap_system;

ALTER TABLE audit_checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON audit_checkpoints TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON audit_checkpoints TO rap_system;
