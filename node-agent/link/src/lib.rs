//! Link frames and session, sans IO.
