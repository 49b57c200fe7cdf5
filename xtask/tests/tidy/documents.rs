//! Documents that stay true: links resolve, every crate says what it is and is on the map.

use std::path::Path;

use crate::workspace::{assert_none, crates, files, list, read, root, string};

#[test]
fn links_between_documents_resolve() {
    let mut findings = Vec::new();
    for file in files(&["md"]) {
        let path = root().join(&file.path);
        let dir = path.parent().unwrap_or(root());
        let broken = links(&file.text)
            .into_iter()
            .filter(|link| !dir.join(link).exists());
        findings.extend(broken.map(|link| format!("{}: {link}", file.path)));
    }
    assert_none("links to files that are not there", &findings);
}

/// The targets of inline links to files, anchors cut off.
fn links(text: &str) -> Vec<&str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .collect()
}

#[test]
fn links_to_files_are_told_from_addresses() {
    let text = "[a](b.md) [c](https://example.org) [d](#e) ![f](g/h.png \"t\") [i](j.md#k)";
    assert_eq!(links(text), ["b.md", "g/h.png", "j.md"]);
}

#[test]
fn every_crate_says_what_it_is() {
    let mut findings = Vec::new();
    for (name, package) in crates() {
        let roots = list(package, "targets").iter().filter(|target| {
            list(target, "kind")
                .iter()
                .any(|kind| kind == "lib" || kind == "bin")
        });
        for target in roots {
            let text = read(Path::new(string(target, "src_path")));
            if !text.starts_with("//! ") || text.starts_with("//! placeholder") {
                findings.push(format!("{name}: {}", string(target, "src_path")));
            }
        }
    }
    assert_none("a crate starts with a module doc", &findings);
}

#[test]
fn every_crate_is_on_the_map() {
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = read(&root().join(document));
        let missing = crates()
            .into_iter()
            .filter(|(name, _)| !text.contains(&format!("crates/{name}")));
        let findings: Vec<_> = missing.map(|(name, _)| format!("crates/{name}")).collect();
        assert_none(
            &format!("the code map of {document} names every crate"),
            &findings,
        );
    }
}
