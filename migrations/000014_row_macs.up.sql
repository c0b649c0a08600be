-- The MAC of a node's row covers its whole set of roles; an organization's readers verify its rows.

ALTER TABLE node_roles DROP COLUMN row_version, DROP COLUMN row_mac;

GRANT SELECT (row_version, row_mac) ON organizations TO rap_app;
