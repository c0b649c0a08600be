-- Database roles and the domains that every table uses.
--
-- Roles belong to the whole server, so they are made only if absent. Where this role may not make
-- them (a hosted database), an administrator makes them beforehand:
--   CREATE ROLE rap_app LOGIN; CREATE ROLE rap_system LOGIN;
-- Neither may be superuser, bypass row-level security, or belong to the owner of these tables.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['rap_app', 'rap_system'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format(
                    'CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this server made it at the same time
            END;
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO rap_app, rap_system;

CREATE DOMAIN rap_sha256 AS bytea CHECK (octet_length(VALUE) = 32);
CREATE DOMAIN rap_public_key AS bytea CHECK (octet_length(VALUE) = 32);
CREATE DOMAIN rap_mac AS bytea CHECK (octet_length(VALUE) = 32);
-- An encoded signed envelope; the bytes are served as they are.
CREATE DOMAIN rap_envelope AS bytea CHECK (octet_length(VALUE) BETWEEN 1 AND 1048576);
-- A private key or data key, sealed; never plain.
CREATE DOMAIN rap_sealed AS bytea CHECK (octet_length(VALUE) BETWEEN 1 AND 65536);
CREATE DOMAIN rap_counter AS bigint CHECK (VALUE >= 0);
CREATE DOMAIN rap_milliseconds AS bigint CHECK (VALUE >= 0);
-- One DNS label.
CREATE DOMAIN rap_name AS text CHECK (VALUE ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$');
CREATE DOMAIN rap_text AS text CHECK (char_length(VALUE) <= 1024);
CREATE DOMAIN rap_authority_mode AS text CHECK (VALUE IN ('strict', 'dev'));
CREATE DOMAIN rap_key_state AS text CHECK (VALUE IN ('prepared', 'active', 'tainted', 'revoked'));
CREATE DOMAIN rap_join_state AS text CHECK (VALUE IN ('pending', 'approved', 'denied'));
CREATE DOMAIN rap_approval_mode AS text CHECK (VALUE IN ('manual', 'auto'));
CREATE DOMAIN rap_identity_status AS text
    CHECK (VALUE IN ('pending', 'active', 'draining', 'revoked', 'left'));
CREATE DOMAIN rap_organization_role AS text
    CHECK (VALUE IN ('organization_owner', 'organization_admin', 'organization_user'));

-- The organization of this transaction; null when unset, so that a comparison with it finds nothing.
CREATE FUNCTION app_organization() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.org', true), '')::uuid;
