//! The states of a session, without their data.
//!
//! Owns the words of status documents and logs.

rap_types::word_enum! {
    /// State of a [`crate::Session`], without its data.
    #[allow(missing_docs)]
    SessionState {
        Dialing = "dialing",
        Handshaking = "handshaking",
        Authorising = "authorising",
        Established = "established",
        Suspect = "suspect",
        Draining = "draining",
        Closed = "closed",
    }
}
