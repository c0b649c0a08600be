//! Roles (permission to act, given by the control plane), platform roles (what an operator may do) and
//! capabilities (facts the host reports).

/// A word that is not in the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{word}`; known are {}", known.join(", "))]
pub struct UnknownWord {
    /// Vocabulary that was searched.
    pub kind: &'static str,
    /// What was given.
    pub word: String,
    /// What it may be.
    pub known: &'static [&'static str],
}

/// Makes an enum whose values have words: the enum with `ALL` and `as_str`, which text, JSON and `Display` agree with.
#[macro_export]
macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used on the wire, in files, in the database and on screen.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    $crate::UnknownWord {
                        kind: stringify!($name),
                        word: text.chars().take(64).collect(),
                        known: &[$($word),+],
                    }
                })
            }
        }

        impl $crate::serde::Serialize for $name {
            fn serialize<S: $crate::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err($crate::serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use word_enum;

word_enum! {
    /// Control-plane permission for a node to act.
    Role {
        /// Carries the fabric: relays for other nodes, as [`Self::RelayNode`] does, and knows every node that it serves.
        Core = "core",
        /// Serves the control API.
        ControlApi = "control-api",
        /// Takes client traffic in.
        EntryNode = "entry-node",
        /// Forwards ciphertext between nodes.
        RelayNode = "relay-node",
        /// Lets traffic out to other networks.
        Egress = "egress",
        /// Runs remote desktop sessions.
        RdpWorker = "rdp-worker",
        /// Runs VNC sessions.
        VncWorker = "vnc-worker",
        /// Exit of a VPN.
        VpnExit = "vpn-exit",
        /// Holds a `vpn_connection`.
        VpnConnector = "vpn-connector",
        /// Serves configuration chunks by hash.
        ConfigStorage = "config-storage",
        /// Caches files.
        FileStorageCache = "file-storage-cache",
        /// Caches releases.
        UpdateCache = "update-cache",
        /// Keeps releases.
        VersionStorage = "version-storage",
        /// Forwards video.
        VideoRelay = "video-relay",
        /// Lets administrators in.
        AdminIngress = "admin-ingress",
    }
}

impl Role {
    /// Roles of these words, each once, in declaration order.
    ///
    /// # Errors
    /// The first word that is no role.
    pub fn parse_all(words: &[String]) -> Result<Vec<Self>, UnknownWord> {
        let mut roles: Vec<Self> = words.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
        roles.sort_unstable();
        roles.dedup();
        Ok(roles)
    }
}

word_enum! {
    /// What a signed grant lets an operator do on the platform.
    PlatformRole {
        /// Everything.
        Owner = "platform_owner",
        /// Runs clusters, tokens and nodes; changes no grant, authority or floor.
        Admin = "platform_admin",
        /// Restores an owner or an authority, and nothing else.
        Recovery = "recovery",
    }
}

word_enum! {
    /// Host fact reported by the agent; never a permission.
    Capability {
        /// Can take client connections.
        AcceptClientIngress = "can_accept_client_ingress",
        /// Can take node connections.
        AcceptNodeIngress = "can_accept_node_ingress",
        /// Can route mesh traffic.
        RouteMesh = "can_route_mesh",
        /// Has a way to the internet.
        EgressInternet = "can_egress_internet",
        /// Has a way to a private network.
        EgressPrivateNetwork = "can_egress_private_network",
        /// Can run an RDP worker.
        RunRdpWorker = "can_run_rdp_worker",
        /// Can run a VNC worker.
        RunVncWorker = "can_run_vnc_worker",
        /// Can run a VPN exit.
        RunVpnExit = "can_run_vpn_exit",
        /// Can run a VPN connector.
        RunVpnConnector = "can_run_vpn_connector",
        /// Can run a file cache.
        RunFileCache = "can_run_file_cache",
        /// Can run an update cache.
        RunUpdateCache = "can_run_update_cache",
        /// Can run a video relay.
        RunVideoRelay = "can_run_video_relay",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_words_are_each_there_once_and_no_word_is_no_role() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(Role::parse_all(&[]), Ok(vec![]));
        let parsed = Role::parse_all(&words(&["egress", "entry-node", "egress"]));
        assert_eq!(parsed, Ok(vec![Role::EntryNode, Role::Egress]));
        assert_eq!(Role::parse_all(&words(&["core", "relay"])).unwrap_err().word, "relay");
    }

    #[test]
    fn every_word_reads_back_and_an_unknown_one_is_named() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>(), Ok(*role));
        }
        for capability in Capability::ALL {
            assert!(capability.as_str().starts_with("can_"));
        }
        for role in PlatformRole::ALL {
            assert_eq!(role.as_str().parse::<PlatformRole>(), Ok(*role));
        }
        let error = "relay".parse::<Role>().unwrap_err();
        assert!(error.to_string().starts_with("unknown Role `relay`; known are core, "), "{error}");
        let error = "auditor".parse::<PlatformRole>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown PlatformRole `auditor`; known are platform_owner, platform_admin, recovery"
        );
    }
}
