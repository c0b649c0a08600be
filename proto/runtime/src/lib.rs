//! Process conventions both binaries keep.
