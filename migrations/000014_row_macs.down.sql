REVOKE SELECT (row_version, row_mac) ON organizations FROM rap_app;

ALTER TABLE node_roles ADD COLUMN row_version rap_counter NOT NULL DEFAULT 1, ADD COLUMN row_mac rap_mac;
