//! No function over seventy lines, but for a list that may only shrink.

use crate::workspace::{assert_none, files};

/// The longest a function may be, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are longer, with the lines that they may have: (file, function, lines). A long flat `match`
/// whose arms are one call each may stand here; nothing else should come in.
const RATCHET: &[(&str, &str, usize)] = &[
    (
        "crates/metainfo/tests/corpus.rs",
        "facts_are_those_of_an_independent_parser",
        72,
    ),
    ("crates/metainfo/tests/corpus.rs", "check_property", 71),
];

struct Function {
    name: String,
    lines: usize,
}

#[test]
fn functions_are_read_at_a_glance() {
    let mut findings = Vec::new();
    let mut listed: Vec<_> = RATCHET.to_vec();
    for file in files(&["rs"]) {
        for function in functions(&file.text) {
            let known = RATCHET
                .iter()
                .find(|(path, name, _)| *path == file.path && *name == function.name);
            listed.retain(|entry| Some(entry) != known || function.lines <= FUNCTION_LINES_MAX);
            let limit = known.map_or(FUNCTION_LINES_MAX, |(_, _, lines)| *lines);
            if function.lines > limit {
                let Function { name, lines } = function;
                findings.push(format!(
                    "{}: {name} has {lines} lines, the limit is {limit}",
                    file.path
                ));
            }
        }
    }
    findings.extend(
        listed
            .iter()
            .map(|(path, name, _)| format!("{path}: {name} has left the ratchet")),
    );
    assert_none("functions over their limit", &findings);
}

/// The functions with bodies in a source, nested ones too.
fn functions(source: &str) -> Vec<Function> {
    let code = blank_literals(source);
    let starts = code.match_indices("fn ").filter(|(at, _)| {
        code[..*at]
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && c != '_')
    });
    starts
        .filter_map(|(at, _)| function_at(&code[at..]))
        .collect()
}

fn function_at(code: &str) -> Option<Function> {
    let name: String = code[3..]
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let open = code
        .find(['{', ';'])
        .filter(|at| code[*at..].starts_with('{') && !name.is_empty())?;
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            let lines = code[..=open + at].lines().count();
            return Some(Function { name, lines });
        }
    }
    None
}

/// The source with the contents of comments, strings and characters blanked, lines kept.
fn blank_literals(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let len = literal_len(rest, out.chars().next_back());
        let (token, after) = rest.split_at(len.max(c.len_utf8()));
        if len == 0 {
            out.push(c);
        } else {
            out.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    out
}

/// The length in bytes of the comment, string or character with which `rest` starts; 0 if with none.
fn literal_len(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if rest.starts_with('r') && !in_word {
        return raw_string_len(rest);
    }
    match rest.as_bytes()[0] {
        b'"' => quoted_len(rest, '"'),
        // A quote opens a character, or names a lifetime.
        b'\'' if rest[1..].starts_with('\\') || rest[1..].chars().nth(1) == Some('\'') => {
            quoted_len(rest, '\'')
        }
        _ => 0,
    }
}

fn raw_string_len(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
    if rest.as_bytes().get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    rest[body..]
        .find(&close)
        .map_or(rest.len(), |end| body + end + close.len())
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn braces_in_literals_do_not_count() {
    let source = "fn a<'x>(b: &'x str) {\n let c = '{'; // {\n let d = \"{\\\"{\";\n let r = r#\"{\"{\"#;\n}\nfn e();\nfn f() {}\n";
    let found: Vec<_> = functions(source)
        .into_iter()
        .map(|f| (f.name, f.lines))
        .collect();
    assert_eq!(found, [("a".to_owned(), 5), ("f".to_owned(), 1)]);
}
