-- The roles stay: other databases of the same server may use them.
DROP FUNCTION app_organization();
DROP DOMAIN rap_organization_role, rap_identity_status, rap_approval_mode, rap_join_state, rap_key_state,
    rap_authority_mode, rap_text, rap_name, rap_milliseconds, rap_counter, rap_sealed, rap_envelope, rap_mac,
    rap_public_key, rap_sha256;
REVOKE USAGE ON SCHEMA public FROM rap_app, rap_system;
