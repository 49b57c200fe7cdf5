//! The page: shell, style, script and data in one file.
//!
//! Every name and reason may come from a stranger, so all text is escaped here or set as text nodes there, and the
//! page's content security policy lets nothing run but our script, and nothing be fetched at all.

use std::fmt::Write;

use data_encoding::BASE64;
use riverrun_hash::sha256;
use serde::Serialize;

use super::run::{Labelled, Run, cut};
use super::series::{Curve, Series};
use super::words;

const SHELL: &str = include_str!("page/shell.html");
const STYLE: &str = concat!(
    include_str!("page/vendor/uplot/uPlot.min.css"),
    "\n",
    include_str!("page/style.css")
);
const SCRIPT: &str = concat!(
    include_str!("page/vendor/uplot/uPlot.iife.min.js"),
    "\n(() => {\n\"use strict\";\n",
    include_str!("page/dom.js"),
    include_str!("page/state.js"),
    include_str!("page/stage.js"),
    include_str!("page/crowd.js"),
    include_str!("page/charts.js"),
    include_str!("page/inspector.js"),
    include_str!("page/player.js"),
    "})();\n"
);

/// What a page tells.
#[derive(Clone, Debug, Default)]
pub struct Report<'a> {
    /// The title.
    pub title: String,
    /// What is shown and why, one paragraph each; the first is the most important sentence.
    pub about: Vec<String>,
    /// The runs; each can be played.
    pub runs: Vec<Labelled<'a>>,
    /// What the runs come to together, if there is more than one.
    pub tables: Vec<Table>,
    /// The same as curves.
    pub charts: Vec<Chart>,
    /// The command that makes this page again.
    pub replay: String,
}

/// A table of results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The heads of the columns.
    pub heads: Vec<String>,
    /// The rows, each as long as the heads.
    pub rows: Vec<Vec<String>>,
}

/// Curves over a quantity that is not time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What the abscissa is.
    pub x_label: String,
    /// What the ordinate is.
    pub y_label: String,
    /// The abscissae.
    pub x: Vec<f64>,
    /// Each curve with its name.
    pub curves: Vec<(String, Vec<Option<f64>>)>,
}

#[derive(Serialize)]
struct Data<'a> {
    runs: &'a [Run],
    charts: &'a [Chart],
}

/// Makes the page.
pub fn page(report: &Report<'_>) -> String {
    let runs: Vec<Run> = report.runs.iter().map(Run::of).collect();
    let data = Data {
        runs: &runs,
        charts: &report.charts,
    };
    // Invariant: strings, numbers and lists have no way to fail. Numbers that are none become null.
    let data = serde_json::to_string(&data).unwrap_or_default();
    let fill = |marker: &str| match marker {
        "csp" => policy(),
        "style" => STYLE.to_owned(),
        "script" => SCRIPT.to_owned(),
        "data" => for_script(&data),
        "title" => escape(&cut(&report.title)),
        "about" => paragraphs(&report.about),
        "story" => runs.iter().map(|run| story(run, runs.len() > 1)).collect(),
        "results" => report.tables.iter().map(table).collect(),
        "replay" => escape(&report.replay),
        _ => String::new(),
    };
    fill_markers(SHELL, fill)
}

/// Puts texts in the place of `{{name}}`; what is put in is not looked at again.
fn fill_markers(shell: &str, fill: impl Fn(&str) -> String) -> String {
    let mut parts = shell.split("{{");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (marker, rest) = part.split_once("}}").unwrap_or(("", part));
        page.push_str(&fill(marker));
        page.push_str(rest);
    }
    page
}

/// Nothing is fetched; only this very style and script count; no string becomes markup.
fn policy() -> String {
    let hash = |text: &str| BASE64.encode(sha256(text.as_bytes()).as_bytes());
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

/// JSON that ends no script element and opens no comment.
fn for_script(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn paragraphs(texts: &[String]) -> String {
    texts.iter().fold(String::new(), |mut out, text| {
        // Writing to a string cannot fail, here and below.
        let _ = write!(out, "<p>{}</p>", escape(text));
        out
    })
}

/// A run in words: its steps, its figures, its peers, what each gave to whom, its log.
fn story(run: &Run, has_others: bool) -> String {
    let mut out = String::new();
    if has_others {
        let _ = write!(out, "<h3>{}</h3>", escape(&run.label));
    }
    out.push_str("<ol class=\"told\">");
    for step in &run.steps {
        let (title, caption) = (escape(&step.title), escape(&step.caption));
        let _ = write!(
            out,
            "<li><b>{title}</b> <span>{}</span> {caption}</li>",
            words::seconds(step.until)
        );
    }
    out.push_str("</ol>");
    out.push_str(&table(&facts_table(run)));
    out.push_str("<details><summary>The peers</summary>");
    out.push_str(&table(&peers_table(run)));
    out.push_str("</details>");
    if let Some(given) = given_table(run) {
        out.push_str(&table(&given));
    }
    out.push_str("<details><summary>The curves as numbers</summary>");
    out.extend(curve_tables(run).iter().map(table));
    out.push_str("</details>");
    if !run.log.is_empty() {
        out.push_str("<details><summary>All that happened</summary><ol class=\"log\">");
        for (at, text) in &run.log {
            let _ = write!(
                out,
                "<li><span>{}</span> {}</li>",
                words::seconds(*at),
                escape(text)
            );
        }
        out.push_str("</ol></details>");
    }
    out
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn facts_table(run: &Run) -> Table {
    let mut rows: Vec<_> = run
        .facts
        .iter()
        .map(|(label, value)| vec![label.clone(), value.clone()])
        .collect();
    rows.push(vec!["Seed of the run".to_owned(), run.seed.to_string()]);
    Table {
        title: "In figures".to_owned(),
        heads: vec!["What".to_owned(), "How much".to_owned()],
        rows,
    }
}

/// Up to so many peers have a row each.
const ROWS_MAX: usize = 40;

fn peers_table(run: &Run) -> Table {
    let row = |peer: &super::run::Peer| {
        let completed = peer
            .completed
            .map_or_else(|| "–".to_owned(), words::seconds);
        let up = format!("{}/s", words::size(peer.up));
        vec![
            peer.name.clone(),
            peer.role.clone(),
            up,
            words::seconds(peer.joined),
            completed,
        ]
    };
    let mut title = "The peers".to_owned();
    if run.peers.len() > ROWS_MAX {
        let _ = write!(title, ": the first {ROWS_MAX} of {}", run.peers.len());
    }
    Table {
        title,
        heads: ["Name", "Role", "Uplink", "Came", "Complete"]
            .map(str::to_owned)
            .to_vec(),
        rows: run.peers.iter().take(ROWS_MAX).map(row).collect(),
    }
}

/// Up to so many peers have a row and a column of what they gave and got.
const GIVEN_PEERS_MAX: usize = 12;

fn given_table(run: &Run) -> Option<Table> {
    if run.peers.len() > GIVEN_PEERS_MAX {
        return None;
    }
    let name = |peer: usize| {
        run.peers
            .get(peer)
            .map_or_else(String::new, |peer| peer.name.clone())
    };
    let peers = 0..run.peers.len();
    let cell = |from: usize, to: usize| {
        let given = run.given.iter().find(|(f, t, _)| (*f, *t) == (from, to));
        given.map_or_else(|| "·".to_owned(), |(_, _, bytes)| words::size(*bytes))
    };
    let rows = peers.clone().map(|from| {
        let cells = peers.clone().map(|to| cell(from, to));
        std::iter::once(name(from)).chain(cells).collect()
    });
    Some(Table {
        title: "Who gave how much to whom (rows give, columns get)".to_owned(),
        heads: std::iter::once("From".to_owned())
            .chain(peers.clone().map(name))
            .collect(),
        rows: rows.collect(),
    })
}

fn curve_tables(run: &Run) -> [Table; 3] {
    let Series {
        completion,
        availability,
        uplink,
        ..
    } = &run.series;
    [
        curves_table("Share of the pieces, over time", run, completion, percent),
        curves_table("Copies in the swarm, over time", run, availability, |v| {
            format!("{v:.1}")
        }),
        curves_table("Uplinks in use, over time", run, uplink, percent),
    ]
}

/// A curve's values at eleven times.
fn curves_table(title: &str, run: &Run, curves: &[Curve], show: impl Fn(f64) -> String) -> Table {
    let times = &run.series.times;
    let rows = (0..=10).map(|tenth| {
        let place = (times.len() - 1) * tenth / 10;
        let cells = curves.iter().map(|curve| match curve.values.get(place) {
            Some(Some(value)) => show(*value),
            _ => "–".to_owned(),
        });
        std::iter::once(words::seconds(times[place]))
            .chain(cells)
            .collect()
    });
    Table {
        title: title.to_owned(),
        heads: std::iter::once("Time".to_owned())
            .chain(curves.iter().map(|c| c.label.clone()))
            .collect(),
        rows: rows.collect(),
    }
}

fn table(table: &Table) -> String {
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
        escape(&table.title)
    );
    for head in &table.heads {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(head));
    }
    out.push_str("</tr></thead><tbody>");
    for row in &table.rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match column {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td>{cell}</td>"),
            };
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    out
}

#[cfg(test)]
mod tests;
