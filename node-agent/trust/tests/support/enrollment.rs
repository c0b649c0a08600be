//! What a host gets when it joins the cluster: token, activation, records, contract.

use super::*;

impl World {
    pub fn token_id(&self) -> TokenId {
        TokenId::from_bytes([21; 16])
    }

    pub fn request_id(&self) -> JoinRequestId {
        JoinRequestId::from_bytes([22; 16])
    }

    pub fn join_token(&self) -> v1::JoinToken {
        let header = HeaderTerms {
            expires_at: Some(ISSUED.plus(Duration::from_secs(3600))),
            sequence: 0,
            ..self.header(HeadOrder::new(1, 0, 0), ISSUED)
        };
        v1::JoinToken {
            header: Some(header.to_wire()),
            token_id: self.token_id().to_vec(),
            control_urls: self.control_urls.clone(),
            server_trust_pin: self.server_pin.to_vec(),
            cluster_authority_key: self.authority.public().to_vec(),
            roles: vec!["core".into()],
            max_uses: 1,
            approval: "manual".into(),
            secret_hash: join_secret_hash(&SECRET).to_vec(),
            cluster_name: "test".into(),
            overlay_pools: if self.pools_in_token {
                vec![self.policy().overlay_ipv4_pool, self.policy().overlay_ipv6_prefix]
            } else {
                Vec::new()
            },
            ..Default::default()
        }
    }

    pub fn token(&self) -> JoinTokenText {
        JoinTokenText::new(sign(&self.join_token(), &[&self.authority]), SECRET)
    }

    pub fn activation_manifest(&self) -> Vec<u8> {
        let header = HeaderTerms {
            cluster: ClusterId::ZERO,
            audience: Audience::Installation(self.installation),
            issuer: self.root.id(),
            ..self.header(HeadOrder::new(0, 1, 0), ISSUED)
        };
        let manifest = v1::ActivationManifest {
            header: Some(header.to_wire()),
            installation_authority_key: self.installation_authority.public().to_vec(),
            tls_ca_spki_sha256: self.server_pin.to_vec(),
            request_nonce: vec![9; 32],
            owner_name: "owner@example.com".into(),
            owner_key: Signer::from_seed(&[15; 32]).public().to_vec(),
        };
        sign(&manifest, &[&self.root])
    }

    pub fn authority_records(&self) -> Vec<Vec<u8>> {
        let header = HeaderTerms {
            issuer: self.installation_authority.id(),
            ..self.header(HeadOrder::new(1, 1, 0), ISSUED)
        };
        let record = v1::AuthorityRecord {
            header: Some(header.to_wire()),
            kind: v1::authority_record::Kind::Create.into(),
            authority_key: self.authority.public().to_vec(),
            previous_record_digest: Vec::new(),
        };
        vec![sign(&record, &[&self.installation_authority, &self.authority])]
    }

    /// The contract that answers a join under `nonce` by `node_key`.
    pub fn contract(&self, nonce: &[u8], node_key: &[u8], wireguard_key: &[u8]) -> v1::BootstrapContract {
        let header = HeaderTerms {
            audience: Audience::Key(rap_types::KeyId::of(node_key)),
            expires_at: Some(ISSUED.plus(Duration::from_secs(3600))),
            ..self.header(HeadOrder::new(1, 0, 0), ISSUED)
        };
        v1::BootstrapContract {
            header: Some(header.to_wire()),
            request_id: self.request_id().to_vec(),
            token_id: self.token_id().to_vec(),
            nonce: nonce.to_vec(),
            node_id: self.node.to_vec(),
            node_public_key: node_key.to_vec(),
            wireguard_public_key: wireguard_key.to_vec(),
            node_name: "own".into(),
            roles: vec!["core".into()],
            overlay_ipv4: format!("{}.5/16", self.pool.0),
            overlay_ipv6: format!("{}:5/48", self.pool.1),
            control_urls: self.control_urls.clone(),
            server_trust_pin: self.server_pin.to_vec(),
            activation_manifest: self.activation_manifest(),
            authority_records: self.authority_records(),
            cluster_ca: self.cluster_ca.clone(),
            cluster_name: "test".into(),
            ..Default::default()
        }
    }

    pub fn signed_contract(&self, nonce: &[u8]) -> Vec<u8> {
        let contract = self.contract(nonce, self.node_key.public().as_bytes(), &self.wireguard_key);
        sign(&contract, &[&self.authority])
    }
}
