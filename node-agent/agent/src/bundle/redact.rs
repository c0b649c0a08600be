//! The last net: text forms of secrets that have no business in a log, if one ever got there.

/// Replaces join tokens, bearers and private key blocks.
pub fn redact(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            in_key = true;
            safe.push_str(HIDDEN);
            safe.push('\n');
        }
        if !in_key {
            safe.push_str(&redact_line(line));
        }
        in_key &= !line.contains("-----END");
    }
    safe
}

fn redact_line(line: &str) -> String {
    let mut text = line.to_owned();
    for mark in MARKS {
        let mut from = 0;
        while let Some(at) = text[from..].find(mark).map(|at| from + at + mark.len()) {
            let secret = |letter: char| letter.is_ascii_alphanumeric() || "-_.+/=".contains(letter);
            let end = text[at..].find(|letter| !secret(letter)).map_or(text.len(), |length| at + length);
            text.replace_range(at..end, HIDDEN);
            from = at + HIDDEN.len();
        }
    }
    text
}

const MARKS: [&str; 4] = ["rapj1.", "Bearer ", "bearer ", "Authorization: "];
const HIDDEN: &str = "[hidden]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bearer_and_key_blocks_are_hidden_and_the_rest_stays() {
        assert_eq!(redact("token rapj1.AbC-_.xyz= used\n"), "token rapj1.[hidden] used\n");
        assert_eq!(redact("a Bearer abc.def, b Bearer x"), "a Bearer [hidden], b Bearer [hidden]");
        let block = "x\n-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\ny\n";
        assert_eq!(redact(block), "x\n[hidden]\ny\n");
        assert_eq!(redact("nothing here\nat all"), "nothing here\nat all");
    }
}
