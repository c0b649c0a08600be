-- When each replica last committed over a new connection. Never signed, never in the outbox.

CREATE TABLE replica_heartbeats (
    replica_id uuid PRIMARY KEY, -- drawn at each start of a process
    beat_at timestamptz NOT NULL
);

ALTER TABLE replica_heartbeats ENABLE ROW LEVEL SECURITY;
ALTER TABLE replica_heartbeats FORCE ROW LEVEL SECURITY;
CREATE POLICY system_all ON replica_heartbeats TO rap_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON replica_heartbeats TO rap_system;
