//! Certificates, as far as their outer form tells.

/// Says whether `der` has the form of a certificate: a SEQUENCE of two SEQUENCEs and a BIT STRING, and nothing else.
/// Whether it is one is told by whoever uses it.
///
/// # Errors
/// Says that it has not.
pub fn certificate(der: &[u8]) -> Result<(), &'static str> {
    let formed = || {
        let (parts, nothing) = element(der, SEQUENCE)?;
        let (to_be_signed, parts) = element(parts, SEQUENCE)?;
        let (algorithm, parts) = element(parts, SEQUENCE)?;
        let (signature, rest) = element(parts, BIT_STRING)?;
        let whole = nothing.is_empty() && rest.is_empty();
        (whole && !to_be_signed.is_empty() && !algorithm.is_empty() && signature.len() > 1).then_some(())
    };
    formed().ok_or("the CA is no certificate")
}

/// Contents of the element of this tag at the front, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (_, rest) = der.split_first().filter(|(first, _)| **first == tag)?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ ..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|_| (0x81..=0x83).contains(&long))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    rest.split_at_checked(length)
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_form_is_no_certificate() {
        let formed = [0x30, 0x0b, 0x30, 1, 0, 0x30, 1, 0, 0x03, 3, 0, 1, 2];
        assert_eq!(certificate(&formed), Ok(()));
        let mut long = vec![0x30, 0x81, 0x8a, 0x30, 0x82, 0, 0x7f];
        long.extend([0; 0x7f]);
        long.extend([0x30, 1, 0, 0x03, 2, 0, 1]);
        long[2] = (long.len() - 3) as u8;
        assert_eq!(certificate(&long), Ok(()));
        for cut in 0..formed.len() {
            assert!(certificate(&formed[..cut]).is_err(), "{cut}");
        }
        for other in [&[0x30, 0x00][..], b"cluster ca", &[0x30, 0x84, 0, 0, 0, 0], &[0x30, 0x80]] {
            assert!(certificate(other).is_err(), "{other:?}");
        }
        let longer = [&formed[..], &[0]].concat();
        assert!(certificate(&longer).is_err());
    }
}
