-- Rotation of a cluster's CA: the private key of an ended CA is erased, and contacts say which CA signed the certificate
-- that a node showed last.
ALTER TABLE cluster_cas ALTER COLUMN sealed_key DROP NOT NULL;
ALTER TABLE cluster_cas ADD CONSTRAINT cluster_cas_revoked_key CHECK ((state = 'revoked') = (sealed_key IS NULL));
ALTER TABLE node_contacts ADD COLUMN certificate_ca rap_counter NOT NULL DEFAULT 0; -- generation; 0 = not known
