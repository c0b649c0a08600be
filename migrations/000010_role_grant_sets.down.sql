DROP INDEX operators_name;
-- Names that were given again are told apart by the operator's id.
ALTER TABLE operators NO FORCE ROW LEVEL SECURITY;
UPDATE operators SET name = left(name, 900) || ' ' || operator_id WHERE disabled_at IS NOT NULL;
ALTER TABLE operators FORCE ROW LEVEL SECURITY;
ALTER TABLE operators ADD CONSTRAINT operators_name UNIQUE (name);
DROP TABLE role_grant_sets;
