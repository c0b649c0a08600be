DELETE FROM idempotency_keys;
ALTER TABLE idempotency_keys DROP COLUMN act, DROP COLUMN done, DROP COLUMN row_version, DROP COLUMN row_mac;
