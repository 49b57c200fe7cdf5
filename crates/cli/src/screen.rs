//! Where words go: data to stdout, talk to stderr, events as JSON, bars only where a person looks.
//!
//! Everything that goes out as text passes through [`visible`], so that no name from a torrent reaches a terminal
//! with its escapes alive.

use std::fmt::Display;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::args::Global;
use crate::env::Env;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::visible::{visible, visible_json};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
const DONE: Style = AnsiColor::Green.on_default().bold();

/// How much is said, by the flags `-q` and `-v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Volume {
    ErrorsOnly,
    Warnings,
    Normal,
    Details,
}

/// The three ways out of a command: stdout, stderr and, on it, a progress bar.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
pub(crate) struct Screen {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    json: bool,
    volume: Volume,
    coloured: bool,
    stdout_is_terminal: bool,
    bars: bool,
}

/// What else a command needs of its surroundings.
pub(crate) struct Surroundings {
    pub(crate) cwd: PathBuf,
    pub(crate) unix_now: i64,
    /// `$XDG_STATE_HOME/riverrun`, or under `~/.local/state`.
    state_dir: Option<PathBuf>,
    stdin: std::sync::Mutex<Box<dyn Read + Send>>,
}

impl Surroundings {
    /// Where to keep what must outlive the run: journals of downloads, metadata of magnet links.
    pub(crate) fn state_dir(&self) -> Outcome<PathBuf> {
        self.state_dir.clone().ok_or_else(|| {
            Failure::say(
                ExitCode::Config,
                "there is no place for the program's state",
            )
            .hint("set HOME or XDG_STATE_HOME")
        })
    }

    /// The path as seen from the directory of the run.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.cwd.join(path)
    }

    /// Reads stdin to its end, or one byte more than `limit_bytes`.
    pub(crate) fn read_stdin(&self, limit_bytes: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // Invariant: the lock is held only here, and reading into a vector does not panic.
        let mut stdin = self
            .stdin
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        stdin
            .by_ref()
            .take(limit_bytes.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn state_dir(env: &Env) -> Option<PathBuf> {
    let below_home = || Some(Path::new(env.var("HOME")?).join(".local/state"));
    let base = env
        .var("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(below_home)?;
    Some(env.cwd.join(base).join("riverrun"))
}

/// Whether to colour a stream: as asked, or if a person looks at it and has not said no (see no-color.org).
pub(crate) fn is_coloured(choice: ColorChoice, env: &Env, is_terminal: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            is_terminal && env.var("NO_COLOR").is_none() && env.var("TERM") != Some("dumb")
        }
    }
}

impl Screen {
    pub(crate) fn new(env: Env, global: &Global) -> (Self, Surroundings) {
        let coloured = is_coloured(global.color, &env, env.terminals.stderr);
        let state_dir = state_dir(&env);
        let volume = match (global.quiet, global.verbose) {
            (0, 0) => Volume::Normal,
            (0, _) => Volume::Details,
            (1, _) => Volume::Warnings,
            _ => Volume::ErrorsOnly,
        };
        let screen = Self {
            json: global.json,
            volume,
            coloured,
            stdout_is_terminal: env.terminals.stdout,
            bars: env.terminals.stderr
                && volume >= Volume::Normal
                && env.var("TERM") != Some("dumb"),
            stdout: env.stdout,
            stderr: env.stderr,
        };
        let stdin = std::sync::Mutex::new(env.stdin);
        (
            screen,
            Surroundings {
                cwd: env.cwd,
                unix_now: env.unix_now,
                state_dir,
                stdin,
            },
        )
    }

    /// For what happens before the flags are known.
    pub(crate) fn plain(env: Env) -> Self {
        Self {
            json: false,
            volume: Volume::Normal,
            coloured: is_coloured(ColorChoice::Auto, &env, env.terminals.stderr),
            stdout_is_terminal: env.terminals.stdout,
            bars: false,
            stdout: env.stdout,
            stderr: env.stderr,
        }
    }

    /// Whether events are wanted instead of text.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// One line of data.
    pub(crate) fn line(&mut self, text: &str) -> Outcome {
        let line = visible(text);
        writeln!(self.stdout, "{line}").map_err(Failure::stdout)
    }

    /// Hands out all lines so far to whoever waits for them.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.stdout.flush().map_err(Failure::stdout)
    }

    /// One event, if events are wanted.
    pub(crate) fn event(&mut self, event: &impl Serialize) -> Outcome {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string(event).map_err(|e| Failure::new(ExitCode::Other, e))?;
        writeln!(self.stdout, "{}", visible_json(&text))
            .and_then(|()| self.stdout.flush())
            .map_err(Failure::stdout)
    }

    /// One finding, which is data, if text is wanted.
    pub(crate) fn finding(&mut self, text: &str) -> Outcome {
        if self.json { Ok(()) } else { self.line(text) }
    }

    /// Bytes as they are, to one of the streams.
    pub(crate) fn raw(&mut self, to_stderr: bool, bytes: &[u8]) -> Outcome {
        let stream = if to_stderr {
            &mut self.stderr
        } else {
            &mut self.stdout
        };
        stream
            .write_all(bytes)
            .and_then(|()| stream.flush())
            .map_err(Failure::stdout)
    }

    /// A torrent file as data on stdout.
    pub(crate) fn torrent_bytes(&mut self, bytes: &[u8]) -> Outcome {
        let refuse = |why| Err(Failure::say(ExitCode::Usage, why).hint("name a file with -o"));
        if self.json {
            return refuse("stdout cannot carry events and a torrent file");
        }
        if self.stdout_is_terminal {
            return refuse("a torrent file is nothing for a terminal");
        }
        self.raw(false, bytes)
    }

    /// Something a person may want to know.
    pub(crate) fn say(&mut self, text: impl Display) {
        self.talk(Volume::Normal, None, &text);
    }

    /// Whether `-v` asks for details.
    pub(crate) fn has_details(&self) -> bool {
        self.volume >= Volume::Details
    }

    /// Something a person may want to know after `-v`.
    pub(crate) fn detail(&mut self, text: impl Display) {
        self.talk(Volume::Details, None, &text);
    }

    /// The one line that says what was done.
    pub(crate) fn done(&mut self, text: impl Display) {
        self.talk(Volume::Normal, Some((DONE, "✔ ")), &text);
    }

    /// Something that should not be so, and does not stop the command.
    pub(crate) fn warn(&mut self, text: impl Display) {
        self.talk(Volume::Warnings, Some((WARNING, "warning: ")), &text);
    }

    /// A list after a warning or an error, one thing a line.
    pub(crate) fn item(&mut self, text: impl Display) {
        self.talk(Volume::Warnings, Some((Style::new(), "  ")), &text);
    }

    /// The error, then what may be tried; gives the exit code of the run.
    pub(crate) fn failure(&mut self, failure: &Failure) -> ExitCode {
        // Nobody reads any more, or whoever stopped the command knows it.
        if failure.is_told
            || matches!(
                failure.code,
                ExitCode::Ok | ExitCode::Interrupted | ExitCode::Terminated
            )
        {
            return failure.code;
        }
        let message = failure.message();
        // Nobody is left to tell if this fails too.
        let _ = self.event(&json!({
            "event": "error", "code": failure.code.number(), "message": message, "hints": failure.hints,
        }));
        let mut lines = message.lines();
        self.talk(
            Volume::ErrorsOnly,
            Some((ERROR, "error: ")),
            &lines.next().unwrap_or_default(),
        );
        for line in lines {
            self.talk(Volume::ErrorsOnly, None, &line);
        }
        for hint in &failure.hints {
            self.talk(Volume::ErrorsOnly, Some((HINT, "  hint: ")), hint);
        }
        failure.code
    }

    /// Tells a failure that does not end the command yet.
    pub(crate) fn tell_failure(&mut self, failure: Failure) -> Failure {
        self.failure(&failure);
        Failure {
            is_told: true,
            ..failure
        }
    }

    fn talk(&mut self, volume: Volume, prefix: Option<(Style, &str)>, text: &dyn Display) {
        if self.volume < volume {
            return;
        }
        let text = text.to_string();
        let line = match prefix {
            Some((style, word)) if self.coloured => {
                format!("{style}{word}{style:#}{}", visible(&text))
            }
            Some((_, word)) => format!("{word}{}", visible(&text)),
            None => visible(&text).into_owned(),
        };
        // A closed stderr is no reason to stop the work.
        let _ = writeln!(self.stderr, "{line}");
    }

    /// A bar for `total` bytes of work; hidden unless a person looks at stderr.
    pub(crate) fn bar(&self, total: u64) -> ProgressBar {
        let target = self.draw_target();
        // Invariant: the templates are constant, and a test parses them.
        let style = ProgressStyle::with_template(bar_template(self.coloured))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::with_draw_target(Some(total), target)
            .with_style(style.progress_chars("█▉▊▋▌▍▎▏ "))
    }

    /// Room for several bars, or for lines that stay where they are and change; hidden as a bar is.
    pub(crate) fn bars(&self) -> MultiProgress {
        MultiProgress::with_draw_target(self.draw_target())
    }

    /// A bar for a transfer, whose total may change, to be put among others.
    pub(crate) fn transfer_bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template(transfer_template(self.coloured))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::no_length().with_style(style.progress_chars("█▉▊▋▌▍▎▏ "))
    }

    /// A line of text that changes, to be put among bars; cut where the terminal ends.
    pub(crate) fn text_bar() -> ProgressBar {
        let style = ProgressStyle::with_template(TEXT_TEMPLATE)
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::no_length().with_style(style)
    }

    /// Whether talk may have colours.
    pub(crate) const fn is_coloured(&self) -> bool {
        self.coloured
    }

    /// How many characters fit on a line of bars.
    pub(crate) fn columns() -> usize {
        let size = rustix::termios::tcgetwinsize(std::io::stderr());
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        if columns == 0 {
            COLUMNS_UNKNOWN
        } else {
            columns
        }
    }

    fn draw_target(&self) -> ProgressDrawTarget {
        if self.bars {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        }
    }
}

/// What a terminal that does not tell its size is taken to have.
const COLUMNS_UNKNOWN: usize = 80;

const TEXT_TEMPLATE: &str = "{wide_msg}";

/// The name, how far the download is, and whatever is to be said of it now.
const fn transfer_template(coloured: bool) -> &'static str {
    if coloured {
        "{prefix}  {decimal_total_bytes} ▕{bar:20.cyan/dim}▏ {percent:>3}%  {wide_msg}"
    } else {
        "{prefix}  {decimal_total_bytes} ▕{bar:20}▏ {percent:>3}%  {wide_msg}"
    }
}

/// What is being done, how far it is, how fast, and when it will be through.
const fn bar_template(coloured: bool) -> &'static str {
    if coloured {
        "{msg} ▕{bar:30.cyan/dim}▏ {percent:>3}%  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  ETA {eta}"
    } else {
        "{msg} ▕{bar:30}▏ {percent:>3}%  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  ETA {eta}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_bars_parse() {
        ProgressStyle::with_template(TEXT_TEMPLATE).unwrap();
        for coloured in [true, false] {
            ProgressStyle::with_template(bar_template(coloured)).unwrap();
            ProgressStyle::with_template(transfer_template(coloured)).unwrap();
        }
    }
}
