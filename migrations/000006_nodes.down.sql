ALTER TABLE join_requests DROP CONSTRAINT join_requests_node;
DROP TABLE node_contacts, node_roles, nodes, node_addresses;
