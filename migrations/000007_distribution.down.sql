DROP VIEW cluster_admin_summaries;
DROP TABLE route_path_decisions, mesh_latest_links, idempotency_keys, node_leaves, cluster_heads, config_outbox;
