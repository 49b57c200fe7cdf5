//! Runs a command and keeps what it wrote.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use riverrun_cli::{Env, Terminals, run};

/// 2026-01-01T00:00:00Z, the time at which all tests run.
pub(crate) const NOW: i64 = 1_767_225_600;

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails, showing all of standard output, if `text` is not part of it.
    #[track_caller]
    pub(crate) fn stdout_has(&self, text: &str) {
        assert!(self.stdout.contains(text), "{}", self.stdout);
    }

    /// Fails, showing all of standard error, if `text` is not part of it.
    #[track_caller]
    pub(crate) fn stderr_has(&self, text: &str) {
        assert!(self.stderr.contains(text), "{}", self.stderr);
    }
}

/// A command, to be given arguments and surroundings.
pub(crate) struct Program {
    args: Vec<String>,
    vars: BTreeMap<String, String>,
    stdin: Vec<u8>,
    terminals: Terminals,
}

impl Program {
    pub(crate) fn new(args: &[&str]) -> Self {
        let args = std::iter::once("riverrun").chain(args.iter().copied());
        Self {
            args: args.map(str::to_owned).collect(),
            vars: BTreeMap::new(),
            stdin: Vec::new(),
            terminals: Terminals::default(),
        }
    }

    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        bytes.clone_into(&mut self.stdin);
        self
    }

    /// As if a person looked at both streams.
    pub(crate) fn on_terminal(mut self) -> Self {
        self.terminals = Terminals {
            stdout: true,
            stderr: true,
        };
        self
    }

    /// Runs it in `dir`, without a home.
    pub(crate) fn run_in(self, dir: &Path) -> Ran {
        let (stdout, stderr) = (Sink::default(), Sink::default());
        let code = run(Env {
            args: self.args.into_iter().map(Into::into).collect(),
            vars: self.vars,
            cwd: dir.to_owned(),
            unix_now: NOW,
            stdin: Box::new(io::Cursor::new(self.stdin)),
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
            terminals: self.terminals,
        });
        Ran {
            code: code.number(),
            stdout: stdout.text(),
            stderr: stderr.text(),
        }
    }

    /// Runs it in an empty directory.
    pub(crate) fn run(self) -> Ran {
        let dir = tempfile::tempdir().expect("a temporary directory");
        self.run_in(dir.path())
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no writer panicked")).into_owned()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panicked").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
