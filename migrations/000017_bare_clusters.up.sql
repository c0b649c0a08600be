-- A row of an older system has no keys yet: neither map key nor MAC. Whatever has one has both.
ALTER TABLE clusters ALTER COLUMN sealed_map_key DROP NOT NULL;
ALTER TABLE clusters ADD CONSTRAINT clusters_bare CHECK (sealed_map_key IS NOT NULL OR row_mac IS NULL);
