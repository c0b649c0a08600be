//! One installation, one activation, sessions that end; keys of clusters.

use rap_contract::KeyState;
use rap_types::{Digest, OperatorId, PlatformRole, Wall};

use super::fixture::{authority, cluster_with_token, committed, id, keys, node_added, own_keys};
use crate::testing::TestDatabase;
use crate::*;

fn installation() -> NewInstallationRow {
    NewInstallationRow {
        installation: id(1),
        dev: false,
        public_key: [1; 32],
        sealed_private_key: vec![2; 61],
        tls_ca_cert_der: vec![3; 300],
        sealed_tls_ca_key: vec![4; 61],
        activation_request: vec![5; 200],
        activation_nonce: [6; 32],
        control_urls: vec!["https://127.0.0.1:8443".into()],
    }
}

#[tokio::test]
async fn fifty_racing_activations_consume_the_request_once() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    assert!(installation_read(&mut transaction).await.unwrap().is_none());
    installation_insert(&mut transaction, &installation()).await.unwrap();
    assert!(!installation_activate(&mut transaction, b"manifest", &[9; 32]).await.unwrap(), "another nonce");
    transaction.commit().await.unwrap();

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        tasks.spawn(async move {
            committed(transact!(store.system(), |connection| {
                installation_activate(connection, b"manifest", &[6; 32]).await
            }))
            .unwrap()
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|won| *won).count(), 1);
    let row = installation_read(&mut store.system().begin().await.unwrap()).await.unwrap().unwrap();
    assert_eq!(row.activation_manifest.as_deref(), Some(b"manifest".as_slice()));
    assert!(row.activated_at.is_some());
    assert_eq!(row.installation.public_key, [1; 32]);
}

#[tokio::test]
async fn a_second_installation_in_one_database_is_refused() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    installation_insert(&mut transaction, &installation()).await.unwrap();
    let second = NewInstallationRow { installation: id(2), ..installation() };
    let error = installation_insert(&mut transaction, &second).await.unwrap_err();
    assert_eq!(error.reason().code(), "resource.exists");
}

#[tokio::test]
async fn a_session_is_found_by_its_hash_until_it_ends_or_its_operator_does() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let operator = OperatorRow {
        operator: OperatorId::from_bytes([7; 16]),
        name: "ann".into(),
        public_key: [8; 32],
        platform_role: "platform_owner".into(),
        disabled_at: None,
    };
    operator_insert(&mut transaction, &own_keys(), &operator).await.unwrap();
    assert_eq!(
        operator_by_key(&mut transaction, &own_keys(), &[8; 32]).await.unwrap().as_ref(),
        Some(&operator)
    );
    assert_eq!(operators_list(&mut transaction, &own_keys()).await.unwrap(), std::slice::from_ref(&operator));
    let now: time::OffsetDateTime =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *transaction).await.unwrap();
    let now = Wall(i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap());
    let session = |word: &[u8], expires_at| NewSession {
        token_hash: Digest::of(&[word]),
        operator: operator.operator,
        operator_public_key: [8; 32],
        expires_at,
    };
    let hour = std::time::Duration::from_secs(3600);
    session_insert(&mut transaction, &session(b"live", now.plus(hour))).await.unwrap();
    session_insert(&mut transaction, &session(b"past", now.minus(hour))).await.unwrap();
    session_insert(&mut transaction, &session(b"old", now.minus(hour * 30))).await.unwrap();
    let live = session_read(&mut transaction, &own_keys(), Digest::of(&[b"live"])).await.unwrap().unwrap();
    assert!(live.live && live.operator == operator);
    assert!(
        !session_read(&mut transaction, &own_keys(), Digest::of(&[b"past"])).await.unwrap().unwrap().live
    );
    assert_eq!(sessions_expire(&mut transaction).await.unwrap(), 1);
    assert_eq!(session_read(&mut transaction, &own_keys(), Digest::of(&[b"other"])).await.unwrap(), None);

    let mut row = operator_hold(&mut transaction, &own_keys(), &operator.public_key).await.unwrap().unwrap();
    row.disabled_at = Some(now);
    crate::authentic::update(&mut transaction, &own_keys(), row).await.unwrap();
    assert_eq!(session_read(&mut transaction, &own_keys(), Digest::of(&[b"live"])).await.unwrap(), None);
    assert!(session_delete(&mut transaction, Digest::of(&[b"live"])).await.unwrap());
    assert!(!session_delete(&mut transaction, Digest::of(&[b"live"])).await.unwrap());
    let long = session_insert(&mut transaction, &session(b"long", now.plus(hour * 13))).await;
    assert!(matches!(long, Err(StoreError::Violated { .. })), "{long:?}");
}

#[tokio::test]
async fn a_cluster_keeps_its_whole_chain_and_a_revoked_key_is_erased() {
    let store = TestDatabase::migrated().await.store().await;
    let cluster = cluster_with_token(&store, 1).await;
    committed(transact!(store.system(), |connection| {
        authority_insert(connection, &keys(), &authority(1, KeyState::Active)).await?;
        authority_insert(connection, &keys(), &authority(2, KeyState::Active)).await?;
        dek_insert(connection, &DekRow { cluster, key_version: 1, wrapped_dek: vec![1; 61] }).await
    }))
    .unwrap();
    let mut transaction = store.system().begin().await.unwrap();
    assert_eq!(deks_list(&mut transaction, cluster).await.unwrap().len(), 1);
    assert_eq!(authority_sequence(&mut transaction, cluster).await.unwrap(), 2);
    let (active, tainted, revoked) = (KeyState::Active, KeyState::Tainted, KeyState::Revoked);
    let before = keys_stamp(&mut transaction, cluster).await.unwrap();
    assert!(authority_state_set(&mut transaction, &keys(), 1, active, tainted).await.unwrap());
    assert!(!authority_state_set(&mut transaction, &keys(), 1, active, tainted).await.unwrap());
    assert!(authority_state_set(&mut transaction, &keys(), 1, tainted, revoked).await.unwrap());
    assert!(keys_stamp(&mut transaction, cluster).await.unwrap() > before);
    let chain = authorities_list(&mut transaction, &keys()).await.unwrap();
    assert_eq!(
        chain.iter().map(|row| (row.sequence, row.state)).collect::<Vec<_>>(),
        [(1, revoked), (2, active)]
    );
    assert_eq!(chain[0].sealed_private_key, None, "a revoked key's private half is gone");
    let again = AuthorityRow { sequence: 3, ..authority(2, KeyState::Active) };
    let again = authority_insert(&mut transaction, &keys(), &again).await.unwrap_err();
    assert!(again.is_exists("cluster_authorities_public_key"), "{again}");
}

#[tokio::test]
async fn one_key_is_prepared_at_a_time_and_confirmations_only_rise() {
    let store = TestDatabase::migrated().await.store().await;
    let cluster = cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    let prepared = PreparedAuthorityRow { cluster, public_key: [3; 32], sealed_private_key: vec![4; 61] };
    authority_prepared_insert(&mut transaction, &prepared).await.unwrap();
    let read = authority_prepared_read(&mut transaction, cluster).await.unwrap().unwrap();
    assert_eq!(read.public_key, prepared.public_key);
    authority_prepared_delete(&mut transaction, cluster).await.unwrap();
    assert!(authority_prepared_read(&mut transaction, cluster).await.unwrap().is_none());

    let (one, two) = (node_added(&mut transaction, 50).await, node_added(&mut transaction, 51).await);
    authority_confirm(&mut transaction, one, 3).await.unwrap();
    authority_confirm(&mut transaction, one, 2).await.unwrap();
    let listed = authority_confirmations(&mut transaction, cluster).await.unwrap();
    assert_eq!(
        listed.iter().map(|row| (row.node, row.sequence)).collect::<Vec<_>>(),
        [(one, Some(3)), (two, None)]
    );
}

#[tokio::test]
async fn a_role_grant_is_kept_once_as_signed() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let digest = Digest::of(&[b"grant"]);
    for _ in 0..2 {
        role_grant_insert(&mut transaction, digest, &[1; 32], PlatformRole::Admin, b"envelope")
            .await
            .unwrap();
    }
    let [row] = role_grants_list(&mut transaction).await.unwrap().try_into().unwrap();
    assert_eq!((row.digest, row.subject_key, row.envelope), (digest, [1; 32], b"envelope".to_vec()));
    assert_eq!(row.platform_role, "platform_admin");
}

#[tokio::test]
async fn of_fifty_racing_sets_of_one_sequence_one_is_stored() {
    let store = TestDatabase::migrated().await.store().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50u8 {
        let store = store.clone();
        tasks.spawn(async move {
            committed(transact!(store.system(), |connection| {
                role_grant_set_insert(connection, 1, Digest::of(&[&[number]]), &[number + 1]).await
            }))
            .unwrap()
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|won| *won).count(), 1);
    let mut transaction = store.system().begin().await.unwrap();
    for sequence in 2..5u8 {
        let digest = Digest::of(&[&[100 + sequence]]);
        assert!(role_grant_set_insert(&mut transaction, sequence.into(), digest, &[sequence]).await.unwrap());
    }
    assert_eq!(role_grant_sets_from(&mut transaction, 3).await.unwrap(), [vec![3], vec![4]]);
    assert_eq!(role_grant_sets_from(&mut transaction, 9).await.unwrap(), [vec![4]]);
    assert_eq!(role_grant_set_newest(&mut transaction).await.unwrap(), Some(vec![4]));
    for altered in ["UPDATE role_grant_sets SET envelope = 'x'", "DELETE FROM role_grant_sets"] {
        let mut attempt = store.system().begin().await.unwrap();
        let refused = sqlx::query(altered).execute(&mut *attempt).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("42501"), "{altered}");
    }
}

#[tokio::test]
async fn an_operator_who_was_shut_out_has_no_session_and_leaves_the_name_free() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let ann = |byte: u8, role: PlatformRole| OperatorRow {
        operator: OperatorId::from_bytes([byte; 16]),
        name: "ann".into(),
        public_key: [byte; 32],
        platform_role: role.to_string(),
        disabled_at: None,
    };
    operator_put(&mut transaction, &own_keys(), &ann(1, PlatformRole::Admin)).await.unwrap();
    let now: time::OffsetDateTime =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *transaction).await.unwrap();
    let session = NewSession {
        token_hash: Digest::of(&[b"session"]),
        operator: ann(1, PlatformRole::Admin).operator,
        operator_public_key: [1; 32],
        expires_at: Wall(i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap() + 3_600_000),
    };
    session_insert(&mut transaction, &session).await.unwrap();
    operator_shut_out(&mut transaction, &own_keys(), &[1; 32]).await.unwrap();
    assert_eq!(session_read(&mut transaction, &own_keys(), session.token_hash).await.unwrap(), None);
    assert!(
        operator_by_key(&mut transaction, &own_keys(), &[1; 32])
            .await
            .unwrap()
            .unwrap()
            .disabled_at
            .is_some()
    );
    // A new key takes the name; the old key comes back under another.
    operator_put(&mut transaction, &own_keys(), &ann(2, PlatformRole::Owner)).await.unwrap();
    let back = OperatorRow { name: "ann's old laptop".into(), ..ann(1, PlatformRole::Recovery) };
    operator_put(&mut transaction, &own_keys(), &back).await.unwrap();
    let row = operator_by_key(&mut transaction, &own_keys(), &[1; 32]).await.unwrap().unwrap();
    assert_eq!((row.disabled_at, row.platform_role.as_str()), (None, "recovery"));
}
