//! Rows to chunks, manifests and the Merkle map.
