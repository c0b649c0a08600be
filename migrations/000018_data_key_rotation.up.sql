-- A data key is replaced by sealing anew what it sealed, and removed once nothing is under it.
GRANT DELETE ON cluster_deks TO rap_system;
GRANT UPDATE (sealed_private_key) ON cluster_authority_prepared TO rap_system;
