//! mTLS links: dial, accept, one task per link.
