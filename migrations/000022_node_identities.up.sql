-- As whom each node was heard last: the instance of its agent, what it acknowledged, and what is doubted about its
-- identity. Never signed, never in the outbox. A doubt holds certificates back and permits nothing.

CREATE TABLE node_identities (
    node_id uuid PRIMARY KEY REFERENCES nodes,
    key_generation rap_counter NOT NULL,
    held_incarnation rap_counter NOT NULL DEFAULT 0, -- highest (incarnation, version) acknowledged under this generation
    held_version rap_counter NOT NULL DEFAULT 0,
    instance_id uuid NOT NULL,                       -- drawn at each start of an agent
    replica_id uuid NOT NULL,                        -- process that heard it; drawn at each of its starts
    heard_at timestamptz NOT NULL,
    doubt rap_text NOT NULL DEFAULT '',              -- code; empty: none
    doubted_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
CREATE INDEX node_identities_doubted ON node_identities (doubted_at) WHERE doubt <> '';

ALTER TABLE node_identities ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_identities FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON node_identities TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON node_identities TO rap_system;
