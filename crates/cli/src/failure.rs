//! Why a command ended without doing its work.

use std::fmt::Display;
use std::io;
use std::path::Path;

use anyhow::anyhow;

use crate::exit::ExitCode;

/// What went wrong, the exit code for it, and what the user may try.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: ExitCode,
    pub(crate) error: anyhow::Error,
    pub(crate) hints: Vec<String>,
    /// It was told when it happened, and only its code is left to give.
    pub(crate) is_told: bool,
}

/// What a command gives back.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
            hints: Vec::new(),
            is_told: false,
        }
    }

    /// A failure that is a sentence of our own.
    pub(crate) fn say(code: ExitCode, message: impl Display) -> Self {
        Self::new(code, anyhow!("{message}"))
    }

    /// An end that the user knows of: nothing is printed for the codes of signals.
    pub(crate) fn silent(code: ExitCode) -> Self {
        Self::say(code, code.meaning())
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Names the thing that failed, in front of why.
    #[must_use]
    pub(crate) fn about(mut self, thing: impl Display) -> Self {
        self.error = self.error.context(thing.to_string());
        self
    }

    /// A failure to read or write `path`, with the code that fits its kind.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => ExitCode::NotFound,
            io::ErrorKind::AlreadyExists => ExitCode::Exists,
            _ => ExitCode::Io,
        };
        Self::new(code, error).about(path.display())
    }

    /// Writing to stdout failed. If nobody reads it any more, that is no failure: `riverrun show … | head`.
    pub(crate) fn stdout(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::BrokenPipe => ExitCode::Ok,
            _ => ExitCode::Io,
        };
        Self::new(code, error).about("cannot write to stdout")
    }

    /// The message and its causes, outermost first, on one line.
    pub(crate) fn message(&self) -> String {
        let mut message = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            // Some errors repeat their cause in their own words.
            if message.ends_with(&cause) {
                continue;
            }
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&cause);
        }
        message
    }
}
