DROP TABLE node_authority_confirmations, cluster_authority_prepared;
DROP INDEX cluster_authorities_public_key;
ALTER TABLE cluster_authorities DROP CONSTRAINT cluster_authorities_prepared;
ALTER TABLE cluster_authorities DROP CONSTRAINT cluster_authorities_revoked_key;
-- An erased key is one byte that opens as nothing.
UPDATE cluster_authorities SET sealed_private_key = '\x00' WHERE sealed_private_key IS NULL;
UPDATE cluster_authorities a SET state = 'tainted' WHERE state = 'active'
    AND sequence < (SELECT max(n.sequence) FROM cluster_authorities n WHERE n.cluster_id = a.cluster_id);
ALTER TABLE cluster_authorities ALTER COLUMN sealed_private_key SET NOT NULL;
CREATE UNIQUE INDEX cluster_authorities_one_active ON cluster_authorities (cluster_id) WHERE state = 'active';
