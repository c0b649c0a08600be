ALTER TABLE node_contacts DROP COLUMN certificate_ca;
ALTER TABLE cluster_cas DROP CONSTRAINT cluster_cas_revoked_key;
DELETE FROM cluster_cas WHERE sealed_key IS NULL;
ALTER TABLE cluster_cas ALTER COLUMN sealed_key SET NOT NULL;
