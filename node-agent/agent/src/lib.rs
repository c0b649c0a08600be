//! The slow plane: identity, verification, supervision.
