//! Encryption of private keys at rest (sealing): the key encryption key wraps data keys, data keys seal secrets.
//!
//! Owns the sealed form and its associated data. Refuses to own where a secret is stored, and where
//! the key encryption key comes from.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use rand_core::CryptoRng;
use rap_types::{ClusterId, InstallationId, Reason};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A sealed value does not open: wrong key, moved or altered ciphertext, unknown form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value in {table}.{column} does not open")]
pub struct UnsealError {
    /// Table that holds the value.
    pub table: &'static str,
    /// Column that holds the value.
    pub column: &'static str,
}

impl UnsealError {
    /// The stable code.
    pub const fn reason(&self) -> Reason {
        Reason::SecretUnseal
    }
}

/// Where a sealed value lives and what it is for. Every field is authenticated, so that a ciphertext
/// copied into another row, column, cluster or installation does not open.
#[derive(Debug, Clone, Copy)]
pub struct SealContext<'a> {
    /// Installation that owns the database.
    pub installation: InstallationId,
    /// Table name.
    pub table: &'static str,
    /// Column name.
    pub column: &'static str,
    /// Primary key bytes of the row.
    pub row_key: &'a [u8],
    /// Cluster the value belongs to; zero for the installation's own.
    pub cluster: ClusterId,
    /// What the value is used for.
    pub purpose: SealPurpose,
    /// Version of the sealing key; rises on rotation.
    pub key_version: u32,
}

/// What a sealed value is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPurpose {
    /// A data key, wrapped by the key encryption key.
    DataKey,
    /// Ed25519 seed that signs for an installation or a cluster.
    Authority,
    /// Private key of a certificate authority (PKCS#8).
    CertificateAuthority,
    /// Key of the Merkle map: salts, padding, positions.
    Map,
    /// Ed25519 seed that signs checkpoints of the audit log.
    AuditLog,
}

impl SealPurpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::DataKey => "data-key",
            Self::Authority => "authority",
            Self::CertificateAuthority => "certificate-authority",
            Self::Map => "map",
            Self::AuditLog => "audit-log",
        }
    }
}

/// A 32-byte symmetric key that seals secrets. Wiped on drop; prints nothing.
#[derive(Clone)]
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl SealingKey {
    /// Makes a new key.
    pub fn generate(generator: &mut dyn CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        generator.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Takes exactly 32 bytes that are not all zero.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        (bytes != [0; 32]).then(|| Self(Zeroizing::new(bytes)))
    }

    /// The raw bytes, for writing a new secret key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals `plaintext` for `context`: form byte, key version, nonce, ciphertext, tag.
    pub fn seal(
        &self,
        context: &SealContext<'_>,
        plaintext: &[u8],
        generator: &mut dyn CryptoRng,
    ) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        generator.fill_bytes(&mut nonce);
        let mut sealed = Vec::with_capacity(PREFIX + plaintext.len() + TAG);
        sealed.push(FORM);
        sealed.extend_from_slice(&context.key_version.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = self
            .cipher()
            .encrypt_inout_detached(
                &XNonce::from(nonce),
                &associated_data(context),
                (&mut sealed[PREFIX..]).into(),
            )
            .expect("plaintext is far below the cipher's 256 GiB limit");
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens what [`Self::seal`] made for the same context.
    pub fn open(&self, context: &SealContext<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let refused = UnsealError { table: context.table, column: context.column };
        if sealed.len() < PREFIX + TAG || sealed[0] != FORM {
            return Err(refused);
        }
        let (prefix, rest) = sealed.split_at(PREFIX);
        let (body, tag) = rest.split_at(rest.len() - TAG);
        if prefix[1..5] != context.key_version.to_be_bytes() {
            return Err(refused);
        }
        let nonce: [u8; NONCE] = prefix[5..].try_into().map_err(|_| refused)?;
        let tag: [u8; TAG] = tag.try_into().map_err(|_| refused)?;
        let mut plaintext = Zeroizing::new(body.to_vec());
        self.cipher()
            .decrypt_inout_detached(
                &XNonce::from(nonce),
                &associated_data(context),
                plaintext.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| refused)?;
        Ok(plaintext)
    }

    /// A key for another use, derived with HKDF-SHA-256 (RFC 5869) under the label `info`.
    pub fn derive(&self, info: &str) -> Zeroizing<[u8; 32]> {
        let mut derived = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(info.as_bytes(), derived.as_mut_slice())
            .expect("32 bytes are one block");
        derived
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

rap_types::debug_as!(SealingKey, "SealingKey");

/// The version of the key that a sealed value names; `None` for an unknown form.
pub fn sealed_version(sealed: &[u8]) -> Option<u32> {
    let version: [u8; 4] = sealed.get(1..5)?.try_into().ok()?;
    (sealed[0] == FORM).then(|| u32::from_be_bytes(version))
}

/// Unambiguous encoding of a context: every variable field carries its u32 length.
fn associated_data(context: &SealContext<'_>) -> Vec<u8> {
    let mut data = b"rap.seal.v1\0".to_vec();
    let fields: [&[u8]; 7] = [
        context.installation.as_bytes(),
        context.table.as_bytes(),
        context.column.as_bytes(),
        context.row_key,
        context.cluster.as_bytes(),
        context.purpose.as_str().as_bytes(),
        &context.key_version.to_be_bytes(),
    ];
    for field in fields {
        data.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend_from_slice(field);
    }
    data
}

const FORM: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;
const PREFIX: usize = 1 + 4 + NONCE;

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn context<'a>(row_key: &'a [u8]) -> SealContext<'a> {
        SealContext {
            installation: InstallationId::from_bytes([1; 16]),
            table: "cluster_keys",
            column: "sealed",
            row_key,
            cluster: ClusterId::from_bytes([2; 16]),
            purpose: SealPurpose::Authority,
            key_version: 1,
        }
    }

    #[test]
    fn opens_only_in_the_place_it_was_sealed_for() {
        let mut generator = rand::rngs::StdRng::seed_from_u64(1);
        let key = SealingKey::generate(&mut generator);
        let sealed = key.seal(&context(b"row"), b"seed", &mut generator);
        assert_eq!(key.open(&context(b"row"), &sealed).unwrap().as_slice(), b"seed");

        let elsewhere = [
            SealContext { installation: InstallationId::from_bytes([9; 16]), ..context(b"row") },
            SealContext { table: "installation", ..context(b"row") },
            SealContext { column: "other", ..context(b"row") },
            context(b"another row"),
            SealContext { cluster: ClusterId::from_bytes([9; 16]), ..context(b"row") },
            SealContext { purpose: SealPurpose::Map, ..context(b"row") },
            SealContext { key_version: 2, ..context(b"row") },
        ];
        for other in &elsewhere {
            let error = key.open(other, &sealed).unwrap_err();
            assert_eq!(error.reason().code(), "secret.unseal", "{other:?}");
        }
        let stranger = SealingKey::generate(&mut generator);
        assert!(stranger.open(&context(b"row"), &sealed).is_err());
    }

    #[test]
    fn every_altered_bit_and_every_truncation_is_refused() {
        let mut generator = rand::rngs::StdRng::seed_from_u64(2);
        let key = SealingKey::generate(&mut generator);
        let sealed = key.seal(&context(b"row"), b"seed", &mut generator);
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(&context(b"row"), &altered).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(key.open(&context(b"row"), &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn two_seals_of_one_value_differ_and_a_zero_key_is_refused() {
        let mut generator = rand::rngs::StdRng::seed_from_u64(3);
        let key = SealingKey::generate(&mut generator);
        let first = key.seal(&context(b"row"), b"seed", &mut generator);
        assert_ne!(first, key.seal(&context(b"row"), b"seed", &mut generator));
        assert!(SealingKey::from_slice(&[0; 32]).is_none());
        assert!(SealingKey::from_slice(&[1; 31]).is_none());
        assert_ne!(*key.derive("a"), *key.derive("b"));
    }
}
