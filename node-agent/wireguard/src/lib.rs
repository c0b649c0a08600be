//! Userspace WireGuard device.
