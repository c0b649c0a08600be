REVOKE UPDATE (sealed_private_key, sealed_tls_ca_key) ON installation_authority FROM rap_system;
