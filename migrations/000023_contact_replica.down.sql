ALTER TABLE node_contacts DROP COLUMN replica_id;
