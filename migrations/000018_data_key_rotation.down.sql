REVOKE UPDATE (sealed_private_key) ON cluster_authority_prepared FROM rap_system;
REVOKE DELETE ON cluster_deks FROM rap_system;
