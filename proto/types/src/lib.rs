//! The words of RAP Fabric Core: ids, time, order, roles, channel classes, reason codes.
