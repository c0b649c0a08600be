//! One Rust type per payload type, so that nobody can verify "some envelope".

use rap_wire::v1;

mod sealed {
    pub trait Sealed {}
}

/// A payload of a signed envelope.
pub trait Document: sealed::Sealed + prost::Message + Default {
    /// Purpose and schema: `application/vnd.rap.<object>.v1+protobuf`.
    const PAYLOAD_TYPE: &'static str;
    /// What people call it.
    const NAME: &'static str;
    /// Cap on the encoded envelope, bytes.
    const SIZE_CAP: usize;
    /// The common header.
    fn header(&self) -> Option<&v1::Header>;
}

macro_rules! documents {
    ($($message:ident $object:literal $cap:expr;)+) => {
        $(
            impl sealed::Sealed for v1::$message {}
            impl Document for v1::$message {
                const PAYLOAD_TYPE: &'static str = concat!("application/vnd.rap.", $object, ".v1+protobuf");
                const NAME: &'static str = $object;
                const SIZE_CAP: usize = $cap;
                fn header(&self) -> Option<&v1::Header> {
                    self.header.as_ref()
                }
            }
        )+

        /// Payload types of every signed document, in table order.
        #[cfg(test)]
        pub(crate) const PAYLOAD_TYPES: &[&str] = &[$(v1::$message::PAYLOAD_TYPE),+];
    };
}

const KIB: usize = 1024;

documents! {
    ActivationRequest "activation-request" 16 * KIB;
    ActivationManifest "activation-manifest" 16 * KIB;
    RoleGrant "role-grant" 16 * KIB;
    RoleGrantSet "role-grant-set" 256 * KIB;
    AuthorityRecord "authority-record" 4 * KIB;
    Revocation "revocation" 4 * KIB;
    JoinToken "join-token" 8 * KIB;
    BootstrapContract "bootstrap-contract" 256 * KIB;
    ClusterHead "cluster-head" 4 * KIB;
    LogKeyRecord "log-key" 4 * KIB;
    BreakGlassGrant "break-glass" 32 * KIB;
    PathInstall "path-install" KIB;
    RelayRow "relay-row" 4 * KIB;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_types_are_distinct() {
        let distinct: std::collections::BTreeSet<_> = PAYLOAD_TYPES.iter().collect();
        assert_eq!(distinct.len(), PAYLOAD_TYPES.len());
    }
}
