DROP TABLE audit_checkpoints, audit_tree, audit_log_keys;
REVOKE USAGE ON SEQUENCE audit_log_entry_id_seq FROM rap_system;
DROP INDEX audit_log_cluster, audit_log_unsequenced;
ALTER TABLE audit_log DROP COLUMN device;
