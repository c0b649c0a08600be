DROP TABLE operator_sessions, operators, platform_role_grants, installation_authority;
