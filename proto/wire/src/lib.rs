//! Generated messages of rap.fabric.v1 and the one parser from wire to types.
