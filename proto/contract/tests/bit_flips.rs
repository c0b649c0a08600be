//! No single flipped bit of any signed object is accepted: exhaustive over the golden set.

mod fixture;

use fixture::*;
use prost::Message as _;
use rap_contract::*;
use rap_types::ClusterId;
use rap_wire::v1;

/// Runs `accepts` on every single-bit change of `bytes` and returns (tried, accepted).
fn flips(bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) -> (usize, Vec<usize>) {
    assert!(accepts(bytes), "the unaltered object must be accepted");
    let mut altered = bytes.to_vec();
    let mut accepted = Vec::new();
    for bit in 0..bytes.len() * 8 {
        altered[bit / 8] ^= 1 << (bit % 8);
        if accepts(&altered) {
            accepted.push(bit);
        }
        altered[bit / 8] ^= 1 << (bit % 8);
    }
    (bytes.len() * 8, accepted)
}

fn none_accepted(name: &str, bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    let (tried, accepted) = flips(bytes, accepts);
    assert!(tried >= bytes.len() * 8 && accepted.is_empty(), "{name}: accepted flips of bits {accepted:?}");
}

fn cluster_expectation(audience: &[Audience]) -> Expectation<'_> {
    Expectation {
        installation: Some(installation()),
        cluster: Some(cluster()),
        audience,
        now: Some(NOW),
        features: &[],
    }
}

#[test]
fn activation_request_and_manifest() {
    let expect = Expectation { cluster: Some(ClusterId::ZERO), now: Some(NOW), ..Expectation::default() };
    let request = sign(&activation_request(), &[&installation_authority()]);
    none_accepted("activation-request", &request, |bytes| open_activation_request(bytes, &expect).is_ok());
    none_accepted("activation-manifest", &manifest_envelope(), |bytes| {
        ActivationTerms::open(bytes, &roots(), &expect).is_ok()
    });
}

#[test]
fn authority_records() {
    let vouching = installation_authority().public();
    let records = records();
    let accepts = |records: &[Vec<u8>]| {
        AuthorityChain::verify(records, &vouching, installation(), cluster(), &[]).is_ok()
    };
    none_accepted("authority-record create", &records[0], |bytes| accepts(&[bytes.to_vec()]));
    none_accepted("authority-record rotate", &records[1], |bytes| {
        accepts(&[records[0].clone(), bytes.to_vec()])
    });
    // Recovery: the installation authority names a new key without the old one.
    let recovery = v1::AuthorityRecord {
        header: Some(
            HeaderTerms {
                expires_at: None,
                sequence: 2,
                incarnation: 2,
                ..header(&installation_authority())
            }
            .to_wire(),
        ),
        kind: v1::authority_record::Kind::Recovery.into(),
        ..rotate_record()
    };
    let recovery = sign(&recovery, &[&installation_authority(), &authority()]);
    none_accepted("authority-record recovery", &recovery, |bytes| {
        accepts(&[records[0].clone(), bytes.to_vec()])
    });
}

#[test]
fn role_grants_and_their_set() {
    let authority = installation_authority().public();
    let audience = [Audience::Installation(installation())];
    let expect = Expectation { cluster: Some(ClusterId::ZERO), ..cluster_expectation(&audience) };
    for (name, grant) in [("role-grant", grant()), ("role-grant revocation", revocation())] {
        none_accepted(name, &sign(&grant, &[&installation_authority()]), |bytes| {
            RoleGrantTerms::open(bytes, &authority, &expect).is_ok()
        });
    }
    let (set, documents) = (sign(&grant_set(), &[&installation_authority()]), grant_documents());
    none_accepted("role-grant-set", &set, |bytes| {
        RoleGrants::verify(bytes, &documents, &authority, installation(), &[]).is_ok()
    });
    for place in [1, 3] {
        none_accepted("document of a role-grant-set", &documents[place], |bytes| {
            let mut documents = documents.clone();
            documents[place] = bytes.to_vec();
            RoleGrants::verify(&set, &documents, &authority, installation(), &[])
                .is_ok_and(|(_, terms)| terms.iter().all(Option::is_some))
        });
    }
}

#[test]
fn revocations_of_every_kind() {
    let (records, authority) = (revocations(), authority_chain());
    for last in 0..records.len() {
        none_accepted(&format!("revocation {}", last + 1), &records[last], |bytes| {
            let chain = [&records[..last], &[bytes.to_vec()]].concat();
            RevocationChain::verify(&chain, &authority, &[]).is_ok()
        });
    }
}

#[test]
fn join_token_envelope_and_text() {
    let audience = [Audience::Cluster(cluster())];
    let expect = cluster_expectation(&audience);
    let envelope = sign(&token(), &[&authority()]);
    none_accepted("join-token", &envelope, |bytes| {
        JoinTokenText::new(bytes.to_vec(), SECRET).open(&expect).is_ok()
    });
    none_accepted("join secret", &SECRET, |bytes| {
        JoinTokenText::new(envelope.clone(), bytes.try_into().unwrap()).open(&expect).is_ok()
    });
    let text = JoinTokenText::new(envelope, SECRET).text();
    none_accepted("join-token text", text.as_bytes(), |bytes| {
        std::str::from_utf8(bytes)
            .is_ok_and(|text| JoinTokenText::parse(text).is_ok_and(|token| token.open(&expect).is_ok()))
    });
}

#[test]
fn bootstrap_contract() {
    let envelope = sign(&contract(), &[&authority()]);
    none_accepted("bootstrap-contract", &envelope, |bytes| {
        open_bootstrap(bytes, &contract_expectation()).is_ok()
    });
}

#[test]
fn break_glass_grants() {
    let manifest = manifest_envelope();
    let known = break_glass_expectation(&manifest);
    let by_authority = BreakGlassText::new(sign(&extension(), &[&authority()]), vec![]);
    let by_root = BreakGlassText::new(sign(&peer_permit(), &[&root()]), vec![root().public()]);
    for (name, file) in [("of the authority", by_authority), ("of the root", by_root)] {
        none_accepted(&format!("break-glass {name}"), &file.encode(), |bytes| {
            BreakGlassText::decode(bytes).is_ok_and(|file| file.open(&known).is_ok())
        });
        none_accepted(&format!("break-glass text {name}"), file.text().as_bytes(), |bytes| {
            std::str::from_utf8(bytes)
                .is_ok_and(|text| BreakGlassText::parse(text).is_ok_and(|file| file.open(&known).is_ok()))
        });
    }
}

#[test]
fn cluster_head() {
    let audience = [Audience::Cluster(cluster())];
    let expect = cluster_expectation(&audience);
    let keys = KeySet::of::<v1::ClusterHead>(authority().public());
    let envelope = sign(&head(), &[&authority()]);
    none_accepted("cluster-head", &envelope, |bytes| HeadFacts::open(bytes, &keys, &expect).is_ok());
}

#[test]
fn exported_snapshot() {
    none_accepted("export", &export(), |bytes| open_export(bytes, &roots(), false).is_ok());
}

#[test]
fn proofs_of_possession() {
    let proof = v1::JoinProof {
        token_id: token_id().to_vec(),
        cluster_id: cluster().to_vec(),
        node_public_key: node_key().public().to_vec(),
        wireguard_public_key: WIREGUARD.to_vec(),
        nonce: NONCE.to_vec(),
        exporter: vec![0x45; 32],
    };
    let signature = sign_possession(JOIN_PROOF, &proof, &node_key());
    let key = node_key().public();
    none_accepted("join proof message", &proof.encode_to_vec(), |bytes| {
        v1::JoinProof::decode(bytes)
            .is_ok_and(|altered| check_possession(JOIN_PROOF, &altered, &key, &signature).is_ok())
    });
    none_accepted("join proof signature", &signature, |bytes| {
        check_possession(JOIN_PROOF, &proof, &key, bytes).is_ok()
    });
    assert!(check_possession(POLL_PROOF, &proof, &key, &signature).is_err(), "another context");
}

/// Every bit of the message and of its signature.
fn proof_flips<T: prost::Message + Default>(context: &'static str, proof: &T) {
    let key = node_key().public();
    let signature = sign_possession(context, proof, &node_key());
    none_accepted(&format!("{context} message"), &proof.encode_to_vec(), |bytes| {
        T::decode(bytes).is_ok_and(|altered| check_possession(context, &altered, &key, &signature).is_ok())
    });
    none_accepted(&format!("{context} signature"), &signature, |bytes| {
        check_possession(context, proof, &key, bytes).is_ok()
    });
    for other in [JOIN_PROOF, POLL_PROOF, CERTIFICATE_PROOF, LEAVE_PROOF, ROTATE_KEY_PROOF, LOGIN_PROOF] {
        assert_eq!(check_possession(other, proof, &key, &signature).is_ok(), other == context, "{other}");
    }
}

#[test]
fn proofs_of_hosts_and_operators() {
    let (node_public_key, exporter) = (node_key().public().to_vec(), vec![0x45; 32]);
    proof_flips(
        POLL_PROOF,
        &v1::PollProof {
            request_id: request_id().to_vec(),
            cluster_id: cluster().to_vec(),
            node_public_key: node_public_key.clone(),
            wireguard_public_key: WIREGUARD.to_vec(),
            nonce: NONCE.to_vec(),
            exporter: exporter.clone(),
        },
    );
    proof_flips(
        CERTIFICATE_PROOF,
        &v1::CertificateProof {
            node_id: node().to_vec(),
            cluster_id: cluster().to_vec(),
            node_public_key: node_public_key.clone(),
            csr_sha256: vec![0x46; 32],
            nonce: NONCE.to_vec(),
            exporter: exporter.clone(),
        },
    );
    proof_flips(
        LEAVE_PROOF,
        &v1::LeaveProof {
            node_id: node().to_vec(),
            cluster_id: cluster().to_vec(),
            node_public_key: node_public_key.clone(),
            nonce: NONCE.to_vec(),
            exporter: exporter.clone(),
        },
    );
    proof_flips(
        ROTATE_KEY_PROOF,
        &v1::RotateKeyProof {
            node_id: node().to_vec(),
            cluster_id: cluster().to_vec(),
            node_public_key: node_public_key.clone(),
            new_node_public_key: owner().public().to_vec(),
            new_wireguard_public_key: WIREGUARD.to_vec(),
            nonce: NONCE.to_vec(),
            exporter: exporter.clone(),
        },
    );
    proof_flips(
        LOGIN_PROOF,
        &v1::LoginProof {
            installation_id: installation().to_vec(),
            operator_key: node_public_key,
            nonce: NONCE.to_vec(),
            exporter,
        },
    );
}

/// Every truncation and every appended byte of the export is refused too.
#[test]
fn truncated_and_extended_exports() {
    let bytes = export();
    for length in 0..bytes.len() {
        assert!(open_export(&bytes[..length], &roots(), false).is_err(), "accepted {length} bytes");
    }
    for byte in 0..=255 {
        let mut longer = bytes.clone();
        longer.push(byte);
        assert!(open_export(&longer, &roots(), false).is_err(), "accepted with {byte} appended");
    }
}

#[test]
fn audit_log_keys_checkpoints_and_exports() {
    let vouching = installation_authority().public();
    let records = [log_record(), second_log_record()];
    let accepts = |records: &[Vec<u8>]| LogKeyChain::verify(records, &vouching, installation(), &[]).is_ok();
    none_accepted("log-key first", &records[0], |bytes| accepts(&[bytes.to_vec()]));
    none_accepted("log-key second", &records[1], |bytes| accepts(&[records[0].clone(), bytes.to_vec()]));
    let note = audit_checkpoint().sign(installation(), &log_key());
    let log = log_chain();
    none_accepted("checkpoint", &note, |bytes| Checkpoint::open(bytes, &log).is_ok());
    let export = audit_export_message().encode_to_vec();
    none_accepted("audit export", &export, |bytes| open_audit_export(bytes, &roots(), false).is_ok());
}

#[test]
fn path_installs() {
    let leaf = leaf(node(), LeafStanding::Good);
    let install = signed_install(&install(), &leaf_key());
    none_accepted("path-install", &install, |bytes| open_install(bytes, &leaf, peer(), &[]).is_ok());
}
