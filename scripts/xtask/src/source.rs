//! Rust source as tokens, without comments, literals and test items. Owns just enough of the grammar for the scan;
//! it is no parser and refuses to judge what it finds.

/// A token and the line it starts on (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// An identifier, `::`, or one other character.
    pub text: String,
    /// Line in the file.
    pub line: usize,
}

/// A path as written, such as `std::fs::read`, with its line. Groups after `use` are flattened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUse {
    /// Segments.
    pub segments: Vec<String>,
    /// Line of the last segment.
    pub line: usize,
}

/// Tokens of a file.
pub fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < characters.len() {
        let end = token_end(&characters, at);
        let piece = &characters[at..end];
        if let Some(text) = meaning(piece) {
            found.push(Token { text, line });
        }
        line += piece.iter().filter(|character| **character == '\n').count();
        at = end;
    }
    found
}

/// Removes items under `#[cfg(test)]`; returns the rest and the names of modules that exist only for tests.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut test_modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        let marked = tokens[at..].iter().map(|token| token.text.as_str()).take(MARK.len()).eq(MARK);
        if !marked {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let start = at + MARK.len();
        let end = item_end(tokens, start);
        if let Some(module) = outside_module(&tokens[start..end]) {
            test_modules.push(module);
        }
        at = end;
    }
    (kept, test_modules)
}

/// Every path written in the tokens.
pub fn paths(tokens: &[Token]) -> Vec<PathUse> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at].text == "use" {
            at = use_tree(tokens, at + 1, &[], &mut found);
        } else if is_identifier(&tokens[at].text) {
            let (segments, next) = straight_path(tokens, at);
            found.push(PathUse { segments, line: tokens[next - 1].line });
            at = next;
        } else {
            at += 1;
        }
    }
    found
}

fn use_tree(tokens: &[Token], start: usize, before: &[String], found: &mut Vec<PathUse>) -> usize {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at,
            "}" => return at + 1,
            "{" => at = use_tree(tokens, at + 1, before, found),
            text if is_identifier(text) => {
                let (tail, next) = straight_path(tokens, at);
                let mut segments = before.to_vec();
                segments.extend(tail);
                at = next;
                if follows(tokens, at, &["::", "{"]) {
                    at = use_tree(tokens, at + 2, &segments, found);
                } else {
                    found.push(PathUse { segments, line: tokens[at - 1].line });
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn straight_path(tokens: &[Token], start: usize) -> (Vec<String>, usize) {
    let (mut segments, mut at) = (vec![tokens[start].text.clone()], start + 1);
    while follows(tokens, at, &["::"]) && tokens.get(at + 1).is_some_and(|next| is_identifier(&next.text)) {
        segments.push(tokens[at + 1].text.clone());
        at += 2;
    }
    (segments, at)
}

fn follows(tokens: &[Token], at: usize, texts: &[&str]) -> bool {
    tokens.iter().skip(at).map(|token| token.text.as_str()).take(texts.len()).eq(texts.iter().copied())
}

/// One past the item that starts at `start`: its closing brace, or its semicolon.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The name in `mod name;`, visibility and attributes aside.
fn outside_module(item: &[Token]) -> Option<String> {
    let [.., keyword, name, end] = item else { return None };
    (keyword.text == "mod" && end.text == ";").then(|| name.text.clone())
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// What a piece means to the scan; spaces, comments and literals mean nothing.
fn meaning(piece: &[char]) -> Option<String> {
    let text: String = piece.iter().collect();
    let literal = text.ends_with(['"', '\'']) || (text.len() > 1 && text.contains('"'));
    let comment = text.starts_with("//") || text.starts_with("/*");
    let plain = text.starts_with(|first: char| first.is_whitespace() || first.is_numeric() || first == '\'');
    (!literal && !comment && !plain).then_some(text)
}

fn token_end(text: &[char], at: usize) -> usize {
    match text[at] {
        '/' if text.get(at + 1) == Some(&'/') => position(text, at, |rest| rest[0] == '\n'),
        '/' if text.get(at + 1) == Some(&'*') => block_comment_end(text, at),
        '"' => string_end(text, at + 1),
        '\'' => quote_end(text, at),
        ':' if text.get(at + 1) == Some(&':') => at + 2,
        first if first.is_alphanumeric() || first == '_' => word_end(text, at),
        _ => at + 1,
    }
}

fn word_end(text: &[char], at: usize) -> usize {
    let end = position(text, at, |rest| !(rest[0].is_alphanumeric() || rest[0] == '_'));
    let prefix: String = text[at..end].iter().collect();
    let raw = matches!(prefix.as_str(), "r" | "br" | "cr");
    let hashes = text[end..].iter().take_while(|character| **character == '#').count();
    match text.get(end + hashes) {
        Some('"') if raw => {
            let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let body = end + hashes + 1;
            (position(text, body, |rest| rest.starts_with(&close)) + close.len()).min(text.len())
        }
        Some('"') if hashes == 0 && matches!(prefix.as_str(), "b" | "c") => string_end(text, end + 1),
        Some('\'') if hashes == 0 && prefix == "b" => quote_end(text, end),
        _ => end,
    }
}

fn string_end(text: &[char], body: usize) -> usize {
    let mut at = body;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// End of a character literal, or of the quote alone when a lifetime starts here.
fn quote_end(text: &[char], at: usize) -> usize {
    if text.get(at + 1) == Some(&'\\') {
        return (position(text, at + 3, |rest| rest[0] == '\'') + 1).min(text.len());
    }
    if text.get(at + 2) == Some(&'\'') { at + 3 } else { at + 1 }
}

fn block_comment_end(text: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn position(text: &[char], from: usize, end: impl Fn(&[char]) -> bool) -> usize {
    (from..text.len()).find(|at| end(&text[*at..])).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Vec<String> {
        paths(&without_tests(&tokens(text)).0).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn groups_after_use_are_flattened() {
        let found = written("use std::{fs, net::{IpAddr, TcpStream}, time::Duration};\nuse a as b;");
        assert_eq!(
            found,
            ["std::fs", "std::net::IpAddr", "std::net::TcpStream", "std::time::Duration", "a", "as", "b"]
        );
    }

    #[test]
    fn comments_and_literals_mean_nothing() {
        let text = r####"
            // std::fs
            /* std::env /* nested std::process */ */
            let a = "std::fs \" std::fs"; let b = r#"std::fs " "#; let c = b"std::fs"; let d = '"'; let e = '\''; let f: &'static str = x;
        "####;
        assert!(written(text).iter().all(|path| !path.contains("::")), "{:?}", written(text));
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let found = paths(&tokens("// one\n/* two\n three */ \"four\n\"\nstd::fs::read(x)"));
        assert_eq!(
            found[0],
            PathUse { segments: ["std", "fs", "read"].map(str::to_owned).to_vec(), line: 5 }
        );
    }

    #[test]
    fn test_items_are_left_out_and_test_files_are_named() {
        let text = "use a::b; #[cfg(test)] mod tests { use std::fs; fn x() { y() } } #[cfg(test)] pub(crate) mod golden; use c::d;";
        let (kept, modules) = without_tests(&tokens(text));
        let found: Vec<String> = paths(&kept).iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(found, ["a::b", "c::d"]);
        assert_eq!(modules, ["golden"]);
    }
}
