//! Other people's clients, each started the way its own documentation says, bound to loopback.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::riverrun::PATIENCE;

/// A client that we have not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Aria2,
    Transmission,
    Libtorrent,
}

/// What a client is to do with a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Seed,
    Leech,
}

/// What a client demands of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing.
    Any,
    /// An encrypted handshake.
    Handshake,
    /// Everything encrypted.
    Stream,
    /// uTP, if the client can be told to use nothing else; else that it may.
    Utp,
}

/// A client at work. Dropping it ends it.
pub(crate) struct Running {
    child: Child,
    client: Client,
    log: PathBuf,
    /// libtorrent's peer ends when this is closed.
    _stdin: Option<ChildStdin>,
    words: Option<Receiver<String>>,
}

impl Client {
    /// Whether the client is installed; says so if not, and fails in CI.
    pub(crate) fn is_here(self) -> bool {
        let here = match self {
            Self::Aria2 => runs("aria2c", "--version"),
            Self::Transmission => runs("transmission-cli", "--version"),
            Self::Libtorrent => python().is_some(),
        };
        if !here {
            let in_ci = std::env::var_os("CI").is_some();
            assert!(!in_ci, "{self:?} must be installed in CI");
            eprintln!("skipped: {self:?} is not installed");
        }
        here
    }

    /// Whether the client dials addresses of the loopback range that a tracker names. Transmission takes them for
    /// invalid, and has to be dialled.
    pub(crate) fn dials_loopback(self) -> bool {
        self != Self::Transmission
    }

    /// Whether the client makes the torrent's empty files. Transmission 3 does not.
    pub(crate) fn makes_empty_files(self) -> bool {
        self != Self::Transmission
    }

    /// Starts the client. `source` is a torrent file or, for a leecher, a magnet link.
    pub(crate) fn start(
        self,
        demand: Demand,
        part: Part,
        source: &str,
        dir: &Path,
        home: &Path,
    ) -> Running {
        self.run(demand, part, source, (dir, home), None)
    }

    /// Starts the client with a DHT that it enters by the node at `entry`.
    pub(crate) fn start_with_dht(
        self,
        entry: &str,
        part: Part,
        source: &str,
        dir: &Path,
        home: &Path,
    ) -> Running {
        self.run(Demand::Any, part, source, (dir, home), Some(entry))
    }

    fn run(
        self,
        demand: Demand,
        part: Part,
        source: &str,
        (dir, home): (&Path, &Path),
        entry: Option<&str>,
    ) -> Running {
        fs::create_dir_all(dir).unwrap();
        fs::create_dir_all(home).unwrap();
        let mut command = match self {
            Self::Aria2 => aria2(demand, part, source, dir),
            Self::Transmission => transmission(demand, part, source, dir, home),
            Self::Libtorrent => {
                let mut command = libtorrent(part, source, dir, free_port());
                command.env("LT_PEER_DEMAND", format!("{demand:?}"));
                command
            }
        };
        if let Some(entry) = entry {
            self.enter_dht(&mut command, entry, home);
        }
        self.spawn(command, home)
    }

    fn spawn(self, mut command: Command, home: &Path) -> Running {
        command.env("HOME", home).current_dir(home);
        let path = home.join("log");
        let log = fs::File::create(&path).unwrap();
        command.stderr(log.try_clone().unwrap());
        let talks = self == Self::Libtorrent;
        command.stdin(if talks { Stdio::piped() } else { Stdio::null() });
        command.stdout(if talks { Stdio::piped() } else { log.into() });
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let words = child.stdout.take().map(|stdout| {
            let (sender, words) = channel();
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
            words
        });
        Running {
            child,
            client: self,
            log: path,
            _stdin: stdin,
            words,
        }
    }
}

impl Client {
    fn enter_dht(self, command: &mut Command, entry: &str, home: &Path) {
        match self {
            // The last of two options counts.
            Self::Aria2 => command
                .arg("--enable-dht=true")
                .arg(format!("--dht-entry-point={entry}"))
                .arg(format!("--dht-listen-port={}", free_port()))
                .arg(format!(
                    "--dht-file-path={}",
                    home.join("dht.dat").display()
                )),
            Self::Libtorrent => command.env("LT_PEER_DHT", entry),
            Self::Transmission => panic!("its DHT takes no address of the loopback range"),
        };
    }
}

impl Running {
    /// Waits until a leecher has everything on disk.
    pub(crate) fn wait_complete(&mut self) {
        match &self.words {
            Some(words) => loop {
                let word = words.recv_timeout(PATIENCE).expect("libtorrent completes");
                if word == "done" {
                    return;
                }
            },
            // The others are told to end when they are complete.
            None => self.wait_end(),
        }
    }

    fn wait_end(&mut self) {
        let since = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if since.elapsed() > PATIENCE {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<_> = log.lines().rev().take(60).collect();
                panic!(
                    "{:?} does not complete; its last words, the latest first: {lines:#?}",
                    self.client
                );
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn runs(program: &str, flag: &str) -> bool {
    let quiet = || Stdio::null();
    Command::new(program)
        .arg(flag)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .status()
        .is_ok()
}

/// The interpreter that has libtorrent.
pub(crate) fn python() -> Option<PathBuf> {
    let python: PathBuf = std::env::var_os("RIVERRUN_TEST_PYTHON")?.into();
    let has_it = Command::new(&python)
        .args(["-c", "import libtorrent"])
        .stderr(Stdio::null())
        .status();
    has_it
        .is_ok_and(|status| status.success())
        .then_some(python)
}

/// The libtorrent peer's script.
pub(crate) fn libtorrent_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/lt_peer.py")
}

/// A port that was free a moment ago. These clients cannot tell which one they got if asked for any.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn aria2(demand: Demand, part: Part, source: &str, dir: &Path) -> Command {
    let mut command = Command::new("aria2c");
    command
        .args([
            "--no-conf",
            "--enable-dht=false",
            "--enable-dht6=false",
            "--bt-enable-lpd=false",
        ])
        .args([
            "--enable-peer-exchange=false",
            "--disable-ipv6=true",
            "--interface=127.0.0.1",
        ])
        .args([
            "--file-allocation=none",
            "--console-log-level=info",
            "--summary-interval=0",
        ])
        .args([
            "--allow-overwrite=true",
            "--follow-torrent=mem",
            "--bt-save-metadata=false",
        ])
        .arg(format!("--listen-port={}", free_port()))
        .arg(format!("--dir={}", dir.display()));
    match demand {
        // aria2 knows no uTP.
        Demand::Any | Demand::Utp => {}
        Demand::Handshake => _ = command.arg("--bt-require-crypto=true"),
        Demand::Stream => _ = command.arg("--bt-force-encryption=true"),
    }
    match part {
        Part::Seed => command.args(["--check-integrity=true", "--seed-ratio=0.0"]),
        Part::Leech => command.args(["--seed-time=0"]),
    };
    command.arg(source);
    command
}

fn transmission(demand: Demand, part: Part, source: &str, dir: &Path, home: &Path) -> Command {
    // 0 is with plain handshakes preferred, 2 without them.
    let (encryption, flag) = match demand {
        Demand::Any | Demand::Utp => (1, "-et"),
        Demand::Handshake | Demand::Stream => (2, "-er"),
    };
    let settings = serde_json::json!({
        "bind-address-ipv4": "127.0.0.1", "dht-enabled": false, "utp-enabled": demand == Demand::Utp, "lpd-enabled": false,
        "pex-enabled": false, "port-forwarding-enabled": false, "download-queue-enabled": false,
        "seed-queue-enabled": false, "preallocation": 0, "encryption": encryption,
    });
    fs::write(home.join("settings.json"), settings.to_string()).unwrap();
    // The hook's parent is the client: complete means over.
    let hook = home.join("complete.sh");
    fs::write(&hook, "#!/bin/sh\nkill -TERM $PPID\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("transmission-cli");
    command.arg("-g").arg(home).arg("-w").arg(dir).args([
        "-p",
        &free_port().to_string(),
        "-M",
        flag,
    ]);
    match part {
        Part::Seed => command.arg("-v"),
        Part::Leech => command.arg("-f").arg(&hook),
    };
    command.arg(source).env("TR_CURL_VERBOSE", "0");
    command
}

/// A libtorrent that knows one peer at most, of these ports of loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    pub(crate) port: u16,
    peer: Option<u16>,
    is_slow: bool,
}

impl Spot {
    pub(crate) const fn at(port: u16) -> Self {
        Self {
            port,
            peer: None,
            is_slow: false,
        }
    }

    pub(crate) const fn knowing(mut self, port: u16) -> Self {
        self.peer = Some(port);
        self
    }

    /// Moves so few bytes a second that it is of no use to anybody.
    pub(crate) const fn slow(mut self) -> Self {
        self.is_slow = true;
        self
    }

    pub(crate) fn start(self, part: Part, source: &str, dir: &Path, home: &Path) -> Running {
        fs::create_dir_all(dir).unwrap();
        fs::create_dir_all(home).unwrap();
        let mut command = libtorrent(part, source, dir, self.port);
        command.args(self.peer.map(|peer| peer.to_string()));
        if self.is_slow {
            command.env("LT_PEER_RATE", "4096");
        }
        Client::Libtorrent.spawn(command, home)
    }
}

fn libtorrent(part: Part, source: &str, dir: &Path, port: u16) -> Command {
    let mut command = Command::new(python().unwrap());
    let part = if part == Part::Seed { "seed" } else { "leech" };
    command
        .arg(libtorrent_script())
        .args([part, source])
        .arg(dir)
        .arg(port.to_string());
    command
}
