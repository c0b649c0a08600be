-- The life of cluster authorities: overlap after a rotation, prepared keys, what nodes confirmed.

-- After a rotation the key before stays active until the nodes have confirmed the new record; the
-- newest record's key signs. A revoked key's private half is erased.
DROP INDEX cluster_authorities_one_active;
ALTER TABLE cluster_authorities ALTER COLUMN sealed_private_key DROP NOT NULL;
ALTER TABLE cluster_authorities ADD CONSTRAINT cluster_authorities_revoked_key
    CHECK ((state = 'revoked') = (sealed_private_key IS NULL));
ALTER TABLE cluster_authorities ADD CONSTRAINT cluster_authorities_prepared CHECK (state <> 'prepared');
-- One key speaks for one cluster, once.
CREATE UNIQUE INDEX cluster_authorities_public_key ON cluster_authorities (public_key);

-- A key that waits for its record.
CREATE TABLE cluster_authority_prepared (
    cluster_id uuid PRIMARY KEY REFERENCES clusters,
    public_key rap_public_key NOT NULL,
    sealed_private_key rap_sealed NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What nodes said they keep; it decides only when an old key may be tainted.
CREATE TABLE node_authority_confirmations (
    node_id uuid PRIMARY KEY REFERENCES nodes,
    sequence rap_counter NOT NULL CHECK (sequence > 0),
    confirmed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

ALTER TABLE cluster_authority_prepared ENABLE ROW LEVEL SECURITY;
ALTER TABLE cluster_authority_prepared FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON cluster_authority_prepared TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON cluster_authority_prepared TO rap_system;

ALTER TABLE node_authority_confirmations ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_authority_confirmations FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON node_authority_confirmations TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON node_authority_confirmations TO rap_system;
