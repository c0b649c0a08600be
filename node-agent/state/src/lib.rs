//! Identity files and bounded caches.
