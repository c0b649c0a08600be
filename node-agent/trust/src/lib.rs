//! Applicant, pins, snapshot acceptor, degraded rules.
