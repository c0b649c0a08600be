-- The key encryption key is replaced by sealing anew what it sealed.
GRANT UPDATE (sealed_private_key, sealed_tls_ca_key) ON installation_authority TO rap_system;
