//! The program under test, run as a user would.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::netns::Namespace;

/// Nothing that is waited for takes longer, on a slow machine either; a hang fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// A running `riverrun --json …`.
pub(crate) struct Riverrun {
    child: Child,
    events: Receiver<Value>,
    stdout: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<String>>,
}

/// What a run that is over left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The events that nobody had waited for.
    pub(crate) events: Vec<Value>,
    pub(crate) stderr: String,
}

impl Ended {
    /// Fails unless it ended with this code, and said all of this on stderr.
    pub(crate) fn assert(&self, code: i32, said: &[&str]) {
        let Self { stderr, .. } = self;
        assert_eq!(self.code, Some(code), "{stderr}");
        for text in said {
            assert!(stderr.contains(text), "no {text:?} in:\n{stderr}");
        }
    }
}

impl Ended {
    /// How many trackers have answered, of those that were not waited for.
    pub(crate) fn announced(&self) -> usize {
        let mut urls: Vec<_> = self
            .events
            .iter()
            .filter(|event| event["event"] == "announced")
            .collect();
        urls.sort_by_key(|event| event["url"].to_string());
        urls.dedup_by_key(|event| event["url"].to_string());
        urls.len()
    }
}

/// The program with its state and configuration in `home`.
pub(crate) fn command(home: &Path, args: &[&str]) -> Command {
    command_in(None, home, args)
}

fn command_in(namespace: Option<&Namespace>, home: &Path, args: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_riverrun");
    // The namespace's command becomes the program: signals reach it.
    let mut command = namespace.map_or_else(|| Command::new(program), |it| it.command(program));
    command.env_clear();
    if namespace.is_none() {
        // Nothing beyond this machine is spoken to: on loopback alone no public node of the DHT is asked.
        command
            .env("RIVERRUN_LISTEN", "127.0.0.1:0")
            .env("RIVERRUN_NO_LSD", "true");
    }
    command
        .args(args)
        .current_dir(home)
        .env("HOME", home)
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null());
    command
}

/// Runs the program to its end; fails unless it succeeds. Gives what it wrote to stdout.
pub(crate) fn run(home: &Path, args: &[&str]) -> String {
    let output = command(home, args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "riverrun {args:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

impl Riverrun {
    /// Starts the program with `--json` and these arguments.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        Self::start_in(None, home, args)
    }

    /// Starts it in a network namespace.
    pub(crate) fn start_in(namespace: Option<&Namespace>, home: &Path, args: &[&str]) -> Self {
        let mut command = command_in(namespace, home, &["--json", "-v"]);
        command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, events) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stdout = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line);
                let event = event.unwrap_or_else(|error| panic!("{line:?} is no event: {error}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            // A program that is killed may end in the middle of a character.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self {
            child,
            events,
            stdout: Some(stdout),
            stderr: Some(stderr),
        }
    }

    /// Waits for an event of this kind.
    pub(crate) fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) if event["event"] == kind => return event,
                Ok(_) => {}
                Err(error) => {
                    let _ = self.child.kill();
                    panic!("no event {kind:?}: {error}\n{}", self.stderr());
                }
            }
        }
    }

    /// Forgets the events that nobody has looked at.
    pub(crate) fn forget(&mut self) {
        while self.events.try_recv().is_ok() {}
    }

    /// Waits for this long; whether the program ended before.
    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            match self
                .events
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// Seeds `torrent` from `dir`; returns when it does, with the port where it listens.
    pub(crate) fn seed(home: &Path, torrent: &Path, dir: &Path) -> (Self, u16) {
        Self::seed_with(home, torrent, dir, &[])
    }

    /// As [`Riverrun::seed`], with these arguments more.
    pub(crate) fn seed_with(home: &Path, torrent: &Path, dir: &Path, more: &[&str]) -> (Self, u16) {
        let args = [&["--listen", "127.0.0.1:0"], more].concat();
        let (seeder, addr) = Self::seed_in(None, home, (torrent, dir), &args);
        (seeder, addr.port())
    }

    /// Seeds a torrent from a directory in a network namespace; returns when it does, with the first address where it
    /// listens.
    pub(crate) fn seed_in(
        namespace: Option<&Namespace>,
        home: &Path,
        (torrent, dir): (&Path, &Path),
        more: &[&str],
    ) -> (Self, SocketAddr) {
        let (torrent, dir) = (torrent.to_str().unwrap(), dir.to_str().unwrap());
        let args = [&["seed", torrent, "-o", dir], more].concat();
        let mut seeder = Self::start_in(namespace, home, &args);
        let event = seeder.wait_for("seeding");
        assert_eq!(event["complete"], true, "{event}");
        let addr = event["listen"][0].as_str().unwrap().parse().unwrap();
        (seeder, addr)
    }

    /// Interrupts the program as Ctrl-C does, and waits for its end.
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.child.wait().unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the program's own end; each line of its stdout has to be an event.
    pub(crate) fn end(mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        let mut events = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => events.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("it does not end:\n{}", self.stderr());
                }
            }
        }
        let stdout = self.stdout.take().map(JoinHandle::join);
        stdout
            .expect("it ends once")
            .expect("each line is an event");
        Ended {
            code: self.child.wait().unwrap().code(),
            events,
            stderr: self.stderr(),
        }
    }

    /// Kills the program without a chance to save anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the program's own end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        while self.events.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().unwrap()
    }

    fn stderr(&mut self) -> String {
        self.stderr
            .take()
            .map(|reader| reader.join().unwrap_or_default())
            .unwrap_or_default()
    }
}

impl Drop for Riverrun {
    fn drop(&mut self) {
        // Already over, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("riverrun said:\n{}", self.stderr());
        }
    }
}
