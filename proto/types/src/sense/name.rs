//! Names of nodes and clusters.

/// Says whether `name` is one label of the domain name system, in lower case: 1 to 63 of a-z, 0-9 and inner hyphens.
///
/// # Errors
/// Says why not.
pub fn label(name: &str) -> Result<(), &'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let hyphens = name.starts_with('-') || name.ends_with('-');
    if name.is_empty() || name.len() > 63 || hyphens || !name.bytes().all(inner) {
        return Err("a name has 1 to 63 of a-z, 0-9 and inner hyphens");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_other_texts_are_no_names() {
        let long = "a".repeat(63);
        for name in ["a", "0", "web-01", "xn--bcher-kva", &long] {
            assert_eq!(label(name), Ok(()), "{name}");
        }
        let longer = "a".repeat(64);
        for name in
            ["", "../../x", "..", "a/b", "a.b", "-a", "a-", "A", "a b", "a\n", "a\0", "ä", "web_01", &longer]
        {
            assert!(label(name).is_err(), "{name:?}");
        }
    }
}
