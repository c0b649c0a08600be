DROP TABLE organization_members, organizations;
