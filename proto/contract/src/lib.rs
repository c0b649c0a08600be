//! Signed documents: build, sign, verify.
