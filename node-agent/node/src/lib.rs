//! Composes the node's cores.
