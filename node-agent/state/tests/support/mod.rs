//! A membership with an identity, floors and a snapshot, and children of the test program.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rap_runtime::Secret;
use rap_state::{
    Cache, CacheLimits, Credentials, FloorStore, Identity, IdentityStore, MembershipDir, MembershipName,
    NewSnapshot, Raise, SignedBytes,
};
use rap_types::{
    ClusterId, Digest, HeadOrder, IdentityStatus, Incarnation, InstallationId, KeyId, Version, Wall,
};

/// Cluster of every test.
pub const CLUSTER: ClusterId = ClusterId::from_bytes([7; 16]);

pub fn membership(data: &Path) -> MembershipDir {
    MembershipDir::open(data, &MembershipName::new("home").unwrap()).unwrap()
}

pub fn identity() -> Identity {
    Identity {
        membership: MembershipName::new("home").unwrap(),
        name: "relay-1".into(),
        installation_id: InstallationId::from_bytes([1; 16]),
        cluster_id: CLUSTER,
        node_id: None,
        identity_status: IdentityStatus::Pending,
        node_fingerprint: KeyId::of(b"set by the store"),
        pending_join_request_id: None,
        authority_required: true,
        credential_ref: String::new(),
        tls_key_generation: 0,
        control_urls: vec!["https://127.0.0.1:8443".into()],
        server_trust_pin: Digest::of(&[b"spki"]),
        installation_authority_pin: None,
        cluster_authority_pins: vec![KeyId::of(b"authority")],
        token_id: None,
        join_token: Some(SignedBytes(b"envelope".to_vec())),
        bootstrap_contract: None,
        authority_records: Vec::new(),
        dev: false,
    }
}

pub fn credentials(seed: u8) -> Credentials {
    Credentials {
        node_key: Secret::new(vec![seed; 32]),
        wireguard_key: Secret::new(vec![seed ^ 1; 32]),
        join_secret: Some(Secret::new(b"join secret".to_vec())),
    }
}

/// A raise to version `n`.
pub fn raise(n: u64) -> Raise {
    let root = Digest::of(&[&n.to_be_bytes()]);
    let wall = Wall(i64::try_from(n).unwrap());
    Raise { head: Some((Incarnation(1), Version(n), root)), time: Some(wall), ..Raise::default() }
}

/// Snapshot `n`: a chunk shared by all, one of its own, and parts that name `n`.
pub fn snapshot(n: u64) -> NewSnapshot {
    let chunks = [vec![0xab; 2000], n.to_be_bytes().repeat(100)];
    let chunks: Vec<_> = chunks.into_iter().map(|chunk| (Digest::of(&[&chunk]), chunk)).collect();
    NewSnapshot {
        order: HeadOrder::new(1, n, 0),
        head: format!("head {n}").into_bytes(),
        leaf: format!("leaf {n}").into_bytes(),
        proof: format!("proof {n}").into_bytes(),
        manifest: format!("manifest {n}").into_bytes(),
        chunk_ids: chunks.iter().map(|(id, _)| *id).collect(),
        new_chunks: chunks,
    }
}

/// Asserts that a stored snapshot is, byte for byte, what [`snapshot`] made.
pub fn assert_whole(stored: &rap_state::StoredSnapshot) {
    let expected = snapshot(stored.order.version.0);
    assert_eq!(stored.order, expected.order);
    assert_eq!(
        (&stored.head, &stored.leaf, &stored.proof, &stored.manifest),
        (&expected.head, &expected.leaf, &expected.proof, &expected.manifest)
    );
    assert_eq!(stored.missing, []);
    assert_eq!(stored.chunks, expected.new_chunks.into_iter().collect());
}

/// Limits whose deadlines a loaded machine meets.
pub fn limits() -> CacheLimits {
    let minute = std::time::Duration::from_secs(60);
    CacheLimits { open_deadline: minute, call_deadline: minute, ..CacheLimits::default() }
}

pub async fn open_cache(dir: &MembershipDir) -> Cache {
    Cache::open(dir, CLUSTER, limits()).await.unwrap()
}

/// Writes one of every durable file of a membership.
pub fn fill(data: &Path, floor: u64) {
    let dir = membership(data);
    IdentityStore::create(&dir, identity(), credentials(3)).unwrap();
    FloorStore::open(&dir).unwrap().0.raise(&raise(floor)).unwrap();
}

/// This test program again, running only the test `name`, with `data` in the variable [`CHILD`].
pub fn child(name: &str, data: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, data);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Data directory given to a child; `None` in the parent, where a child's test does nothing.
pub fn child_data() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

const CHILD: &str = "RAP_STATE_TEST_CHILD";
