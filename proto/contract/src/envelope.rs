//! The one container of everything that is signed (DSSE 1.0.2 shape and signing bytes).

use prost::Message as _;
use rap_types::{KeyId, Reason};
use rap_wire::v1;

use crate::{Document, Reject, Signer};

/// Most signatures an envelope may carry.
const SIGNATURES_CAP: usize = 8;

/// A strictly decoded container. The payload is private: the only way to it is `verify`.
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<(KeyId, Vec<u8>)>,
}

impl Envelope {
    /// Decodes a container of at most `cap` bytes. Nothing in it is trusted yet.
    ///
    /// # Errors
    /// `envelope.too_large`, `envelope.malformed` (also for unknown fields or any second encoding),
    /// `signature.missing`.
    pub fn decode(bytes: &[u8], cap: usize) -> Result<Self, Reject> {
        Reject::when(bytes.len() > cap, Reason::EnvelopeTooLarge, "signed object")?;
        let malformed = |what| Reject::new(Reason::EnvelopeMalformed, what);
        let message =
            v1::SignedEnvelope::decode(bytes).map_err(|_| malformed("does not decode as an envelope"))?;
        if message.encode_to_vec() != bytes {
            return Err(malformed("does not re-encode to the same bytes"));
        }
        if message.signatures.is_empty() || message.signatures.len() > SIGNATURES_CAP {
            return Err(Reject::new(Reason::SignatureMissing, "an envelope has 1 to 8 signatures"));
        }
        let signatures = message
            .signatures
            .into_iter()
            .map(|signature| match KeyId::from_slice(&signature.key_id) {
                Ok(id) if signature.sig.len() == 64 => Ok((id, signature.sig)),
                _ => Err(malformed("a key id has 32 and a signature 64 bytes")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { payload_type: message.payload_type, payload: message.payload, signatures })
    }

    /// What the container says it holds. Not verified.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// Who the container says signed it. Not verified.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.signatures.iter().map(|(id, _)| *id)
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn signatures(&self) -> &[(KeyId, Vec<u8>)] {
        &self.signatures
    }

    pub(crate) fn signing_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload_type, &self.payload)
    }
}

/// Signs a document by each of `signers` and returns the encoded envelope.
pub fn sign<T: Document>(document: &T, signers: &[&Signer]) -> Vec<u8> {
    let payload = document.encode_to_vec();
    let message = pre_authentication_encoding(T::PAYLOAD_TYPE, &payload);
    v1::SignedEnvelope {
        payload_type: T::PAYLOAD_TYPE.to_owned(),
        payload,
        signatures: signers
            .iter()
            .map(|signer| v1::Signature { key_id: signer.id().to_vec(), sig: signer.sign(&message).to_vec() })
            .collect(),
    }
    .encode_to_vec()
}

/// DSSE 1.0.2: `DSSEv1 <len type> <type> <len payload> <payload>`, lengths in decimal ASCII.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_bytes_are_those_of_the_dsse_specification() {
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn unknown_fields_and_second_encodings_are_refused() {
        let bytes = sign(&v1::ClusterHead::default(), &[&Signer::from_seed(&[1; 32])]);
        assert!(Envelope::decode(&bytes, 4096).is_ok());
        let mut extended = bytes.clone();
        extended.extend_from_slice(&[0x22, 0x00]); // field 4, empty
        let reason = |bytes: &[u8]| Envelope::decode(bytes, 4096).err().map(|reject| reject.reason);
        assert_eq!(reason(&extended), Some(Reason::EnvelopeMalformed));
        assert_eq!(reason(&bytes[..bytes.len() - 1]), Some(Reason::EnvelopeMalformed));
        assert_eq!(reason(&vec![0; 4097]), Some(Reason::EnvelopeTooLarge));
        assert_eq!(reason(&[]), Some(Reason::SignatureMissing));
    }
}
