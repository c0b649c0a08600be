-- Which process of the control plane has the stream of a node.

ALTER TABLE node_contacts ADD COLUMN replica_id uuid; -- as in replica_heartbeats; NULL: none has
