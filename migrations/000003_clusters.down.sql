DROP TABLE cluster_policies, cluster_cas, cluster_deks, cluster_authorities, clusters;
