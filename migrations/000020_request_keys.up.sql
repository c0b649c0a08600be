-- A mutation that is sent twice with one key is done once: what the first one did, and its answer. Nobody wrote rows of this table before.

DELETE FROM idempotency_keys;
ALTER TABLE idempotency_keys
    ADD COLUMN act rap_text NOT NULL,
    ADD COLUMN done bytea NOT NULL,
    ADD COLUMN row_version rap_counter NOT NULL DEFAULT 1,
    ADD COLUMN row_mac rap_mac NOT NULL;
