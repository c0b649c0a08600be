//! Reason codes: the one table of everything the product refuses or reports.
//!
//! A code is identical in gRPC details, log, metric label, audit and docs/ERRORS.md. It is never
//! renamed and never reused.

use crate::exit::ExitCode;
pub use crate::rpc_status::RpcStatus;

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable code, `family.detail`.
    pub code: &'static str,
    /// gRPC status.
    pub rpc: RpcStatus,
    /// Exit code of a program that ends because of it.
    pub exit: ExitCode,
    /// True if the same call may succeed later without a change by a person.
    pub retryable: bool,
    /// What it means and what to do, one sentence each.
    pub text: &'static str,
}

macro_rules! reasons {
    ($($variant:ident $code:literal $rpc:ident $exit:ident $retry:literal $text:literal)+) => {
        /// Why something was refused or reported. See the table in docs/ERRORS.md.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $text] $variant),+ }

        impl Reason {
            /// Every reason, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The line of the table.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row {
                        code: $code,
                        rpc: RpcStatus::$rpc,
                        exit: reasons!(@exit $rpc $exit),
                        retryable: $retry,
                        text: $text,
                    }),+
                }
            }
        }
    };
    (@exit $rpc:ident same) => { RpcStatus::$rpc.exit() };
    (@exit $rpc:ident $exit:ident) => { ExitCode::$exit };
}

reasons! {
    // general
    RequestInvalid "request.invalid" InvalidArgument same false "A field is missing or malformed. The message names it."
    RequestTooLarge "request.too_large" ResourceExhausted Usage false "The message exceeds the size limit of this call."
    RequestUnimplemented "request.unimplemented" Unimplemented same false "This server has no such service or method. Update the older side."
    RequestTimeout "request.timeout" DeadlineExceeded same true "The deadline passed before the answer. Try again."
    RequestKeyReused "request.key_reused" FailedPrecondition same false "The request key was used for another request. Give a new key, or none."
    RequestReplayed "request.replayed" AlreadyExists same false "This was done before under the same request key, and its answer is not given twice. The message names what was written."
    RequestConflict "request.conflict" Aborted same true "Another change happened at the same time. Try again."
    ResourceNotFound "resource.not_found" NotFound same false "There is no such thing, or you may not see it."
    ResourceExists "resource.exists" AlreadyExists same false "The name is taken."
    RateLimited "rate.limited" ResourceExhausted same true "Too many requests from this source. Wait and try again."
    ServerUnavailable "server.unavailable" Unavailable same true "The control plane cannot answer now. Try again."
    ServerUnreachable "server.unreachable" Unavailable same true "No control URL could be reached. Check the address and the network."
    ServerInternal "server.internal" Internal same false "A fault in the control plane. The log has the request id."
    StoreUnavailable "store.unavailable" Unavailable same true "The database does not answer. Nothing was changed."
    StoreOutcomeUnknown "store.outcome_unknown" Unavailable same false "The connection to the database was lost during the commit. The change may or may not be done. Ask again with the same request key: what is done is not done twice."
    StoreCredentials "store.credentials" FailedPrecondition Usage false "The database refuses the user or the password. Check the database URL."
    StoreMissing "store.missing" FailedPrecondition Usage false "The database server has no database of this name. Create it, or correct the database URL."
    // envelope and keys
    EnvelopeMalformed "envelope.malformed" InvalidArgument VerificationFailed false "The container does not decode, or does not re-encode to the same bytes."
    EnvelopeTooLarge "envelope.too_large" InvalidArgument VerificationFailed false "The signed object exceeds its size limit."
    EnvelopeType "envelope.type" InvalidArgument VerificationFailed false "The payload type is not the one expected here."
    SignatureMissing "signature.missing" PermissionDenied VerificationFailed false "A required signature is absent, or there are more than allowed."
    SignatureInvalid "signature.invalid" PermissionDenied VerificationFailed false "A signature does not verify."
    KeyUnknown "key.unknown" PermissionDenied VerificationFailed false "Signed by a key that is not pinned."
    KeyPurpose "key.purpose" PermissionDenied VerificationFailed false "The key is valid but may not sign this type."
    KeyState "key.state" PermissionDenied VerificationFailed false "The key is not active."
    KeyInvalid "key.invalid" InvalidArgument VerificationFailed false "Public key bytes are weak, short, long or not canonical."
    HeaderMalformed "header.malformed" InvalidArgument VerificationFailed false "The signed header lacks a field or a field is malformed."
    HeaderIssuer "header.issuer" PermissionDenied VerificationFailed false "The header names another issuer than the verifying key."
    HeaderInstallation "header.installation" PermissionDenied VerificationFailed false "Signed for another installation."
    HeaderCluster "header.cluster" PermissionDenied VerificationFailed false "Signed for another cluster."
    HeaderAudience "header.audience" PermissionDenied VerificationFailed false "Signed for another audience."
    HeaderNotYetValid "header.not_yet_valid" FailedPrecondition VerificationFailed true "Not valid yet. Check the clocks."
    HeaderExpired "header.expired" FailedPrecondition VerificationFailed false "Expired."
    HeaderCritical "header.critical" FailedPrecondition VerificationFailed false "Needs a feature this version does not know. Update."
    PayloadMalformed "payload.malformed" InvalidArgument VerificationFailed false "The signed payload does not decode or a field is out of range."
    ClockRegressed "clock.regressed" FailedPrecondition Degraded true "The wall clock of this host is behind what this node knows to have passed. Deadlines go by what passed. Set the clock."
    ClockSkew "clock.skew" FailedPrecondition VerificationFailed true "Issued too far in the future. Check the clocks of both hosts."
    // chain
    ChainBroken "chain.broken" PermissionDenied VerificationFailed false "The chain of records has a gap or a wrong link."
    ActivationMismatch "activation.mismatch" PermissionDenied VerificationFailed false "The manifest names another installation, authority or server."
    ActivationReplayed "activation.replayed" FailedPrecondition same false "This activation was already consumed."
    ActivationRequired "activation.required" FailedPrecondition same false "The installation is not activated. Sign the request with the Product Root and log in with the manifest."
    AuthorityMismatch "authority.mismatch" PermissionDenied VerificationFailed false "The cluster authority is not the pinned one."
    AuthorityDevRefused "authority.dev_refused" FailedPrecondition VerificationFailed false "Signed by a development installation; start the agent in dev mode to accept it."
    AuthorityModeFixed "authority.mode_fixed" FailedPrecondition same false "A data directory keeps the authority mode it was made with."
    AuthorityDevAddress "authority.dev_address" FailedPrecondition Usage false "Development mode binds only loopback, private or ULA addresses."
    BackupAltered "backup.altered" DataLoss same false "The backup is damaged, was altered, or was made under another secret key."
    AuthorityState "authority.state" FailedPrecondition same false "The step does not fit the state of the authority key. See rapctl authority list."
    AuthorityUnconfirmed "authority.unconfirmed" FailedPrecondition same true "Nodes seen within a day have not confirmed the newer authority record. See rapctl authority confirmations, or use --force."
    CaState "ca.state" FailedPrecondition same false "The step does not fit the state of the cluster's CA. See rapctl cluster show."
    CaUnconfirmed "ca.unconfirmed" FailedPrecondition same true "Nodes do not follow the rotation of the cluster's CA yet. See rapctl cluster ca, or use --advance."
    ClusterNoAuthority "cluster.no_authority" FailedPrecondition same false "The cluster's row has no keys: it came from elsewhere. See rapctl cluster ensure-authority."
    RowTampered "row.tampered" DataLoss same false "A database row disagrees with what was signed."
    PlannerDivergence "planner.divergence" DataLoss same false "Two replicas computed different heads for one version."
    PlannerScopeTooLarge "planner.scope_too_large" ResourceExhausted same false "A node would know more peers, or its whole snapshot would have more bytes, than a node takes. What exceeds the limit is left out; revocations are published all the same."
    PlannerFactInvalid "planner.fact_invalid" FailedPrecondition same false "A row holds an endpoint or a WireGuard key that makes no sense. It is left out of what is published; the node and the rest of its record stay."
    // floors of a replica
    FloorHealed "floor.healed" DataLoss same false "The database had lost what was signed, and this replica put it back from its copies. Find out why it was lost."
    FloorRollback "floor.rollback" DataLoss same false "Older than what this replica has seen signed. The database was put back or its rows were removed."
    FloorEquivocation "floor.equivocation" DataLoss same false "Another document than the one this replica has seen signed at the same position."
    FloorMissing "floor.missing" FailedPrecondition same false "This replica has no floors yet: it allows no platform action until it took them from another replica or an owner confirmed them."
    // operators
    LoginRefused "login.refused" Unauthenticated same false "The key is not an operator's or the proof does not hold."
    SessionMissing "session.missing" Unauthenticated same false "Log in first: rapctl login."
    SessionExpired "session.expired" Unauthenticated same false "The session ended. Log in again."
    GrantMissing "grant.missing" PermissionDenied same false "No live signed grant allows this."
    GrantLastOwner "grant.last_owner" FailedPrecondition same false "The last platform owner whose grant has no end cannot be revoked. Grant another owner first."
    ChannelWrong "channel.wrong" PermissionDenied same false "This service is not offered on this kind of connection."
    // tokens and enrollment
    TokenMalformed "token.malformed" InvalidArgument VerificationFailed false "Not a join token."
    TokenUnknown "token.unknown" PermissionDenied same false "The control plane does not know this token."
    TokenSecret "token.secret" PermissionDenied same false "The secret does not belong to the token."
    TokenExpired "token.expired" FailedPrecondition Denied false "The token expired."
    TokenRevoked "token.revoked" FailedPrecondition Denied false "The token was revoked."
    TokenAuthorityRevoked "token.authority_revoked" FailedPrecondition Denied false "The authority key that signed the token was revoked after a rotation. Ask for a new token."
    TokenExhausted "token.exhausted" FailedPrecondition Denied false "The token has no uses left."
    EnrollmentProof "enrollment.proof" PermissionDenied same false "The proof of key possession does not hold for this connection."
    EnrollmentNonce "enrollment.nonce" PermissionDenied same false "The nonce is unknown on this connection or was used."
    EnrollmentRefused "enrollment.refused" PermissionDenied same false "No such enrollment for this key."
    EnrollmentPending "enrollment.pending" FailedPrecondition Conflict true "Waiting for an operator to approve."
    EnrollmentDenied "enrollment.denied" PermissionDenied same false "An operator denied the request."
    EnrollmentKeyInUse "enrollment.key_in_use" AlreadyExists same false "The node key already belongs to a node of this cluster."
    EnrollmentDecided "enrollment.decided" FailedPrecondition same false "The request was already decided."
    ContractMismatch "contract.mismatch" PermissionDenied VerificationFailed false "The bootstrap contract does not answer this request."
    ContractInsensible "contract.insensible" FailedPrecondition VerificationFailed false "The signed bootstrap contract makes no sense: its addresses, pools, name or CA. Nothing was written. Ask the operator of the control plane."
    PinMismatch "pin.mismatch" PermissionDenied VerificationFailed false "The server or authority is not the pinned one."
    // snapshots
    SnapshotMalformed "snapshot.malformed" InvalidArgument VerificationFailed false "The snapshot or export does not decode strictly."
    SnapshotTooLarge "snapshot.too_large" ResourceExhausted VerificationFailed false "The snapshot exceeds a size or count limit."
    SnapshotRollback "snapshot.rollback" FailedPrecondition VerificationFailed false "Older than what this node already accepted."
    SnapshotEquivocation "snapshot.equivocation" DataLoss same false "Two different heads for one version: the node freezes at the last good one."
    SnapshotFrozen "snapshot.frozen" FailedPrecondition VerificationFailed false "Frozen after equivocation; thaws on a head of a higher incarnation."
    SnapshotProof "snapshot.proof" DataLoss same false "The inclusion proof does not lead to the signed root."
    SnapshotScope "snapshot.scope" PermissionDenied VerificationFailed false "The snapshot is another node's."
    SnapshotChunkMissing "snapshot.chunk_missing" FailedPrecondition VerificationFailed true "A referenced chunk is absent; the node asks for it."
    SnapshotChunkInvalid "snapshot.chunk_invalid" DataLoss same false "A chunk's bytes do not match its id or its slot."
    SnapshotManifest "snapshot.manifest" DataLoss same false "The manifest is not sorted, or repeats a slot."
    SnapshotSemantic "snapshot.semantic" DataLoss same false "Contents contradict each other."
    SnapshotPeerInvalid "snapshot.peer_invalid" FailedPrecondition Degraded false "A signed record makes no sense: a key, an address outside of the cluster's pool, a name. It is not used; everything else of the snapshot is."
    SnapshotAbsent "snapshot.absent" NotFound same true "No verified snapshot yet."
    SnapshotStale "snapshot.stale" FailedPrecondition Degraded true "The head is past fresh_until: the node is degraded."
    BreakGlassMalformed "break_glass.malformed" InvalidArgument VerificationFailed false "Not a break-glass grant."
    BreakGlassLifetime "break_glass.lifetime" PermissionDenied VerificationFailed false "A break-glass grant lives at most 24 hours."
    BreakGlassReplayed "break_glass.replayed" FailedPrecondition same false "This break-glass grant was already applied here."
    BreakGlassConflict "break_glass.conflict" FailedPrecondition same false "The grant contradicts the snapshot: the peer is revoked, or its keys or addresses are another's."
    BreakGlassAbsent "break_glass.absent" NotFound same false "No such break-glass grant holds on this host. See rap-node-agent break-glass list."
    DegradedRefused "degraded.refused" FailedPrecondition Degraded true "Not while this node is without current configuration: the degraded-mode contract refuses it."
    // node and overlay
    NodeRevoked "node.revoked" PermissionDenied same false "The node's key was revoked."
    NodeUnknown "node.unknown" NotFound same false "No such node in this cluster."
    NodeOffline "node.offline" Unavailable same true "The node has no stream to the control plane now."
    NodeCloned "node.cloned" FailedPrecondition same false "One identity is in two places: a copied disk or a copied state directory. Stop one of them, then `rapctl node accept` the other, rotate its key, or revoke the node with --evict."
    NodeRolledBack "node.rolled_back" FailedPrecondition same false "The node came back with an older state than it acknowledged: an old copy of its state directory. Find out who put it there, then `rapctl node accept`, rotate its key, or revoke the node with --evict."
    NodeKeyNewer "node.key_newer" FailedPrecondition same false "The node's identity key is newer than the one that the control plane knows: its database was restored to a time before the key was rotated. Remove the entry with `rapctl node revoke --evict`, then run `rap-node-agent join --rejoin` on the node with a new token."
    CertificateInvalid "certificate.invalid" Unauthenticated VerificationFailed false "The peer certificate is malformed, expired or of another authority."
    CertificateIdentity "certificate.identity" Unauthenticated VerificationFailed false "The peer certificate does not name the expected node."
    OverlayExhausted "overlay.exhausted" ResourceExhausted Conflict false "The address pool has no free host number."
    OverlayOverlap "overlay.overlap" FailedPrecondition same false "The pools of two memberships on one host overlap."
    OverlayHostConflict "overlay.host_conflict" FailedPrecondition same false "The host uses addresses of the overlay's pool itself. That part is the host's: choose another pool, or change the host's network."
    OverlayShadowsRoute "overlay.shadows_route" FailedPrecondition same false "The overlay's pool lies within a wider route of the host and wins there. Check that nothing in the pool is meant for that route."
    InterfaceContested "interface.contested" Aborted same false "Somebody else changes the overlay interface again and again; it is left as it is. Tell the host's network manager to leave it alone."
    InterfaceIncomplete "interface.incomplete" Unavailable same true "The kernel refuses an address or a route of the overlay interface. The rest is applied, and it is tried again."
    HostnetNoNft "hostnet.no_nft" FailedPrecondition same false "The packet filter of the overlay is not loaded: neighbours of the host reach its overlay addresses. Install nftables."
    WireguardKernelUnavailable "wireguard.kernel_unavailable" FailedPrecondition Usage false "This kernel has no WireGuard; use backend auto or userspace."
    MembershipExists "membership.exists" AlreadyExists same false "This host already has a membership of that name."
    MembershipAbsent "membership.absent" NotFound same false "This host has no such membership. Join first."
    // audit
    AuditMalformed "audit.malformed" InvalidArgument VerificationFailed false "An audit entry, proof, checkpoint or export does not decode strictly."
    AuditProof "audit.proof" DataLoss same false "A proof does not lead to the signed root of the audit tree."
    AuditCheckpoint "audit.checkpoint" DataLoss same false "A checkpoint is not signed by the log key of this installation, or is of another log."
    AuditInconsistent "audit.inconsistent" DataLoss same false "Two signed checkpoints contradict each other: history was rewritten. Keep the evidence."
    AuditTampered "audit.tampered" DataLoss same false "An audit row was altered, removed or moved after it was written. Nothing more is signed."
    AuditRollback "audit.rollback" DataLoss same false "The audit log in the database is shorter than a checkpoint that was signed."
    AuditFenced "audit.fenced" Aborted same true "Another replica took over the sequencing of the audit log."
    // links
    LinkVersion "link.version" FailedPrecondition Generic false "No common link protocol version."
    LinkFrameMalformed "link.frame_malformed" InvalidArgument Generic false "A frame has an unknown version, class or flag, or a bad length."
    LinkFrameTooLarge "link.frame_too_large" ResourceExhausted Generic false "A frame exceeds the payload cap."
    LinkPeerUnknown "link.peer_unknown" PermissionDenied same false "The peer is not in this node's snapshot."
    LinkHandshakeTimeout "link.handshake_timeout" DeadlineExceeded same true "The peer did not finish the handshake in time."
    LinkSilent "link.silent" Unavailable same true "The peer stopped answering probes."
    LinkDuplicate "link.duplicate" Aborted same true "Another connection to the same peer was kept."
    LinkState "link.state" FailedPrecondition Generic false "The message does not fit the session's state."
    LinkNoneUp "link.none_up" Unavailable Degraded true "No link of this node is up, though the control plane hears it. Check that 7443/tcp passes between this host and others."
    LinkUnreachable "link.unreachable" Unavailable same true "No endpoint of the peer could be connected."
    LinkClosed "link.closed" Unavailable same true "The connection to the peer ended."
    LinkDrained "link.drained" Unavailable same true "This node or the peer closed the link on purpose, to stop or restart."
    LinkStalled "link.stalled" Unavailable same true "The peer stopped reading."
    LinkBudget "link.budget" ResourceExhausted same true "Too many handshakes at once, in all or from one source."
    LinkQueueFull "link.queue_full" ResourceExhausted same true "A queue of the link is full; a frame was refused, or an older one was dropped for it."
    LinkCapacity "link.capacity" ResourceExhausted same true "The relay has as many attached nodes as it takes. The node uses another relay."
    LinkLane "link.lane" InvalidArgument Generic false "The frame has a class that its lane or its path does not carry."
    LinkIdle "link.idle" Unavailable same true "The lane carried no data for a while. It is opened again when data waits for it."
    LinkQueueDelay "link.queue_delay" ResourceExhausted same true "A frame was dropped because it had waited too long for its lane."
    LinkPermitExpired "link.permit_expired" FailedPrecondition Denied true "The time until which this node may talk to the peer has passed."
    ProbeTimeout "probe.timeout" DeadlineExceeded same true "The peer did not answer the probe."
    // paths through relays
    PathSignature "path.signature" PermissionDenied VerificationFailed false "The install is not signed by a valid certificate of the source, is for another cluster, or is malformed."
    PathLifetime "path.lifetime" InvalidArgument Generic false "The lifetime of a path is 10 s to 600 s."
    PathKind "path.kind" Unimplemented Generic false "This version does not carry this kind of path."
    PathLoop "path.loop" InvalidArgument Generic false "A node occurs twice on the path, or a position does not fit the path."
    PathPreviousMismatch "path.previous_mismatch" PermissionDenied Denied false "The install did not come from the node that it names as the previous one."
    PathDenied "path.denied" PermissionDenied same false "The destination does not know the source of the path, or an end of it was removed."
    PathGenerationStale "path.generation_stale" Aborted Generic true "A newer path between these nodes was installed before. The source takes a higher generation."
    PathLabelInUse "path.label_in_use" AlreadyExists Generic true "The label belongs to another path. The source takes another label."
    PathLabelUnknown "path.label_unknown" NotFound Generic true "No path is installed under this label. The source installs the path again."
    PathCapacity "path.capacity" ResourceExhausted Generic true "The hop carries as many paths as it may, in all, of this source, or under way."
    PathRate "path.rate" ResourceExhausted Generic true "Too many installs in a short time, in all, of this source, or from this neighbour; or frames above the rate of their path."
    PathNextUnreachable "path.next_unreachable" Unavailable same true "The hop has no link to the next node of the path and could not make one in time."
    PathHopBudget "path.hop_budget" FailedPrecondition Generic false "The frame had passed as many nodes as it may."
    PathTimeout "path.timeout" DeadlineExceeded same true "The path was not answered in time."
    PathExpired "path.expired" FailedPrecondition Generic true "The lifetime of the path ended before it was renewed."
    PathReplaced "path.replaced" Aborted Generic true "A newer path took over."
    PathWithdrawn "path.withdrawn" Aborted Generic true "The source took the path back: it was idle, or the plan no longer has it."
    PathUnknown "path.unknown" NotFound Generic true "There is no such path here: it ended."
    PathMalformed "path.malformed" InvalidArgument Generic false "A message or a frame of a path does not decode, or is too long."
    PathNoRoute "path.no_route" Unavailable same true "No path to the node is admissible now. `path explain` says which constraint each relay does not meet."
    RelayNotAllowed "relay.not_allowed" PermissionDenied same false "This node carries nothing for others."
    RelayUnknownEnd "relay.unknown_end" PermissionDenied same false "The relay does not know an end of the path."
    RelayOrganization "relay.organization" PermissionDenied same false "The relay belongs to an organization, and an end of the path does not."
    RelayDraining "relay.draining" Unavailable same true "The relay takes no new paths."
    RelayMetricsDisputed "relay.metrics_disputed" FailedPrecondition Generic true "A path takes much longer than the relays on it say. What was measured counts, and these relays cost more for a while."
    RelayRowInvalid "relay.row_invalid" InvalidArgument Generic false "What a relay says of its links is not signed by it, or makes no sense."
    RelayRowStale "relay.row_stale" FailedPrecondition Generic false "The relay has said something newer of its links."
    // data plane
    DataplaneVersion "dataplane.version" FailedPrecondition Generic false "Agent and data plane have no common protocol version."
    DataplaneBusy "dataplane.busy" AlreadyExists same false "Another agent controls this data plane, or another data plane holds the membership."
    DataplanePeer "dataplane.peer" PermissionDenied same false "The process at the other end of the socket has another user."
    DataplaneTable "dataplane.table" InvalidArgument Generic false "The forwarding table is malformed or not newer."
    DataplaneTableBase "dataplane.table_base" FailedPrecondition Generic true "The change of the forwarding table is not based on the version in force. The agent sends a whole table."
    DataplaneTableTooLarge "dataplane.table_too_large" ResourceExhausted Generic false "The forwarding table has more peers or bytes than the data plane takes. Revocations are applied all the same."
    DataplaneTableUnsupported "dataplane.table_unsupported" Unimplemented Generic false "The forwarding table asks for something that this version of the data plane cannot do."
    DataplaneOutsidePool "dataplane.outside_pool" PermissionDenied Generic false "The forwarding table has an address outside of the pools that this host lets the membership use (/etc/rap/dataplane/MEMBERSHIP.env)."
    DataplaneUnavailable "dataplane.unavailable" Unavailable same true "The data plane does not answer."
    // local state and configuration
    StateCorrupt "state.corrupt" DataLoss Generic false "Both copies of a state file are damaged. Restore the file or join again."
    StateMissing "state.missing" DataLoss Generic false "A state file of a joined membership is gone, both copies. Put it back, or join --rejoin: the node goes on with the same key."
    StateForeign "state.foreign" FailedPrecondition Generic false "A state file is another node's. It was moved aside and is not used."
    StateSchema "state.schema" FailedPrecondition Usage false "A state file was written by a newer version. It was not touched."
    StateReadOnly "state.read_only" FailedPrecondition Generic false "The data directory cannot be written."
    StateNoSpace "state.no_space" ResourceExhausted Generic true "The disk is full."
    StateLocked "state.locked" AlreadyExists same false "Another process uses this data directory."
    StateIo "state.io" Internal same false "Reading or writing local state failed."
    StateFull "state.full" ResourceExhausted Generic true "A cache or state file is at its size limit."
    StateTimeout "state.timeout" DeadlineExceeded same true "The disk did not answer in time."
    ConfigInvalid "config.invalid" InvalidArgument Usage false "The configuration has problems. All are listed."
    SecretExposed "secret.exposed" FailedPrecondition Usage false "A secret file is readable by others, or its directory is writable for everybody. chmod 600 the file, or chmod go-w the directory."
    SecretMissing "secret.missing" FailedPrecondition Usage false "A required secret is not configured."
    SecretUnseal "secret.unseal" DataLoss Generic false "A sealed key does not open: wrong secret key or moved ciphertext."
    PostgresVersion "postgres.version" FailedPrecondition Usage false "The data directory was made by another PostgreSQL major version."
    PostgresMissing "postgres.missing" FailedPrecondition Usage false "No PostgreSQL 15 or newer was found. Install it or give --database-url."
    PostgresRole "postgres.role" FailedPrecondition Usage false "A database role could bypass row-level security."
    MigrationUnknown "migration.unknown" FailedPrecondition Usage false "The database was migrated by a newer version."
}

impl Reason {
    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The reason with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// Exit code of a program that ends because of it.
    pub const fn exit(self) -> ExitCode {
        self.row().exit
    }

    /// True if the same call may succeed later without a change by a person.
    pub const fn retryable(self) -> bool {
        self.row().retryable
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_two_lower_case_words() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for code in codes {
            let (family, detail) = code.split_once('.').unwrap();
            for word in [family, detail] {
                assert!(
                    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{code}"
                );
            }
        }
    }

    #[test]
    fn every_code_finds_its_reason() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(Reason::from_code("nothing.here"), None);
    }

    #[test]
    fn every_text_says_something_and_no_refusal_exits_zero() {
        for reason in Reason::ALL {
            assert!(reason.row().text.ends_with('.'), "{reason}");
            assert_ne!(reason.exit(), ExitCode::Ok, "{reason}");
        }
    }
}
