DROP INDEX join_requests_node;
DROP INDEX nodes_gone_key;
DROP INDEX nodes_public_key;
ALTER TABLE nodes ADD CONSTRAINT nodes_public_key UNIQUE (cluster_id, node_public_key);
DROP TABLE node_revocations;
