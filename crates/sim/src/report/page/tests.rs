use super::*;
use crate::recording::{Moment, MomentKind, Recording};
use crate::report::sample;

fn make(recording: &Recording) -> String {
    page(&Report {
        title: recording.title.clone(),
        about: vec!["Four computers want the same file.".to_owned()],
        runs: vec![Labelled {
            label: "a run".to_owned(),
            recording,
        }],
        replay: "riverrun simulate worked-example --seed 1".to_owned(),
        ..Report::default()
    })
}

/// Everything between the start of `<name` and its end tag, all of them.
fn elements<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let starts = page.match_indices(&open).map(|(at, _)| &page[at..]);
    starts
        .filter_map(|rest| rest.split_once(&close).map(|(element, _)| element))
        .collect()
}

#[test]
fn a_page_refers_to_nothing_outside() {
    let page = make(&sample::four_pieces());
    for forbidden in [
        " src=",
        "srcset=",
        "<link",
        "<iframe",
        "<object",
        "<embed",
        "<base",
        "@import",
        "url(",
        "http-equiv=\"refresh",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let own: String = elements(&page, "script")
        .concat()
        .replace(include_str!("vendor/uplot/uPlot.iife.min.js"), "");
    for forbidden in [
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "import(",
        "sendBeacon",
        "innerHTML",
        "eval(",
        "://",
    ] {
        let allowed = forbidden == "://"
            && own.matches("://").count() == own.matches("http://www.w3.org/2000/svg").count();
        assert!(allowed || !own.contains(forbidden), "{forbidden}");
    }
    assert!(page.matches("href=").count() == page.matches("href=\"#").count());
}

#[test]
fn the_policy_names_the_hashes_of_style_and_script() {
    let page = make(&sample::four_pieces());
    let body = |name: &str| {
        let all = elements(&page, name);
        let last = all.last().expect("there is one");
        last.split_once('>').expect("an open tag").1.to_owned()
    };
    for text in [body("script"), body("style")] {
        let hash = BASE64.encode(sha256(text.as_bytes()).as_bytes());
        assert!(page.contains(&format!("'sha256-{hash}'")));
    }
}

#[test]
fn hostile_names_stay_text() {
    let mut recording = sample::four_pieces();
    let evil = "</script><script>alert(1)</script><!-- {{script}} \u{2028} \"'&\u{1b}[2J";
    evil.clone_into(&mut recording.title);
    evil.clone_into(&mut recording.peers[1].name);
    recording.moments.push(Moment {
        at: 2.0,
        kind: MomentKind::Note {
            text: evil.to_owned(),
        },
    });
    let why = Some(evil.to_owned());
    recording.moments.push(Moment {
        at: 2.0,
        kind: MomentKind::Choke {
            by: 0,
            to: 1,
            choked: true,
            why,
        },
    });
    let page = make(&recording);
    assert!(!page.contains("<script>alert"));
    assert_eq!(
        elements(&page, "script").len(),
        elements(&make(&sample::four_pieces()), "script").len()
    );
    assert!(!page.contains('\u{1b}'));
    assert!(
        page.contains("\\u003c/script\\u003e"),
        "the data carries the name"
    );
}

#[test]
fn the_story_is_there_without_a_script() {
    let page = make(&sample::four_pieces());
    let main = page.split("<script").next().expect("a part before scripts");
    assert!(main.contains("three different pieces, not three copies of one"));
    assert!(main.contains("<th scope=\"row\">S</th>"));
}

#[test]
fn a_thousand_peers_make_a_page_of_bearable_size() {
    let page = make(&sample::crowd(1000));
    assert!(page.len() < 6_000_000, "{} bytes", page.len());
}

#[test]
fn numbers_that_are_none_do_no_harm() {
    let mut recording = sample::four_pieces();
    recording.bound = Some(f64::NAN);
    recording.end = 0.0;
    recording.pieces = 0;
    let page = make(&recording);
    assert!(page.contains("</html>"));
}
