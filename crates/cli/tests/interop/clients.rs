//! Other people's clients, each started the way its own documentation says, bound to loopback.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::machine;
use crate::netns::Namespace;
use crate::riverrun::PATIENCE;
use crate::scene::Scene;

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

/// Where a client is, and what it knows there.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// `None` is the machine's own network.
    pub(crate) namespace: Option<&'a Namespace>,
    /// Its address.
    pub(crate) ip: Ipv4Addr,
    /// By which nodes it enters the DHT; if none, it stays away.
    pub(crate) nodes: &'a [SocketAddr],
}

impl Place<'_> {
    const LOOPBACK: Self = Self {
        namespace: None,
        ip: Ipv4Addr::LOCALHOST,
        nodes: &[],
    };
}

/// A client at work. Dropping it ends it.
pub(crate) struct Running {
    command: Command,
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
        let (name, is_here) = match self {
            Self::Aria2 => ("aria2", machine::starts("aria2c", "--version")),
            Self::Transmission => (
                "Transmission",
                machine::starts("transmission-cli", "--version"),
            ),
            Self::Libtorrent => ("libtorrent", python().is_some()),
        };
        machine::has(name, is_here)
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

    /// Starts the client on loopback. `source` is a torrent file or, for a leecher, a magnet link.
    pub(crate) fn start(
        self,
        demand: Demand,
        part: Part,
        source: &str,
        dir: &Path,
        home: &Path,
    ) -> Running {
        self.run(Place::LOOPBACK, demand, part, source, (dir, home))
    }

    /// Starts the client somewhere, with the DHT if there are nodes to enter by.
    pub(crate) fn start_in(
        self,
        place: Place<'_>,
        part: Part,
        source: &str,
        dir: &Path,
        home: &Path,
    ) -> Running {
        self.run(place, Demand::Any, part, source, (dir, home))
    }

    fn run(
        self,
        place: Place<'_>,
        demand: Demand,
        part: Part,
        source: &str,
        (dir, home): (&Path, &Path),
    ) -> Running {
        fs::create_dir_all(dir).unwrap();
        fs::create_dir_all(home).unwrap();
        let mut command = match self {
            Self::Aria2 => aria2(place, demand, part, source, dir),
            Self::Transmission => transmission(place, demand, part, source, (dir, home)),
            Self::Libtorrent => {
                let addr = SocketAddr::from((place.ip, free_port()));
                let mut command = libtorrent(part, source, dir, addr);
                command.env("LT_PEER_DEMAND", format!("{demand:?}"));
                command
            }
        };
        if !place.nodes.is_empty() {
            self.enter_dht(&mut command, place.nodes, home);
        }
        self.spawn(inside(place.namespace, command), home)
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
            command,
            child,
            client: self,
            log: path,
            _stdin: stdin,
            words,
        }
    }
}

impl Client {
    fn enter_dht(self, command: &mut Command, nodes: &[SocketAddr], home: &Path) {
        let entry = nodes[0].to_string();
        match self {
            // The last of two options counts.
            Self::Aria2 => {
                let file = home.join("dht.dat");
                command
                    .arg("--enable-dht=true")
                    .arg(format!("--dht-entry-point={entry}"))
                    .arg(format!("--dht-listen-port={}", free_port()))
                    .arg(format!("--dht-file-path={}", file.display()));
            }
            Self::Libtorrent => _ = command.env("LT_PEER_DHT", entry),
            // It asks for no peers until it knows nine nodes. These are where it looks for those of its last run.
            Self::Transmission => {
                let mut saved = format!("d5:nodes{}:", 6 * nodes.len()).into_bytes();
                for node in nodes {
                    let SocketAddr::V4(node) = node else {
                        panic!("{node} is no IPv4 address")
                    };
                    saved.extend(node.ip().octets());
                    saved.extend(node.port().to_be_bytes());
                }
                saved.push(b'e');
                fs::write(home.join("dht.dat"), saved).unwrap();
            }
        }
    }
}

/// The command, run in the namespace, if there is one.
fn inside(namespace: Option<&Namespace>, command: Command) -> Command {
    let Some(namespace) = namespace else {
        return command;
    };
    let mut within = namespace.command(command.get_program());
    within.args(command.get_args());
    let envs = command.get_envs();
    within.envs(envs.filter_map(|(name, value)| Some((name, value?))));
    within
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
        self.wait_until("does not complete", |running, _| {
            running.child.try_wait().unwrap().is_some()
        });
    }

    /// Waits until Transmission has begun to announce in the DHT. Whoever asks the DHT before is a node to it, and it
    /// looks for a place for its announce among those who have left.
    pub(crate) fn wait_announcing(&mut self) {
        if self.client == Client::Transmission {
            self.wait_until("does not announce", |running, log| {
                // On a busy machine it takes a torrent whose files are about to be checked for a stopped one, and ends.
                if running.child.try_wait().unwrap().is_some() {
                    running.child = running.command.spawn().unwrap();
                }
                log.contains("DHT announce")
            });
        }
    }

    /// Waits until something is so, by the process and its log.
    fn wait_until(&mut self, otherwise: &str, is_so: impl Fn(&mut Self, &str) -> bool) {
        let since = Instant::now();
        loop {
            // A log may end in the middle of a character.
            let log = fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            if is_so(self, &log) {
                return;
            }
            if since.elapsed() > PATIENCE {
                let client = self.client;
                let lines: Vec<_> = log.lines().rev().take(60).collect();
                panic!("{client:?} {otherwise}; its last words, the latest first: {lines:#?}");
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

fn aria2(place: Place<'_>, demand: Demand, part: Part, source: &str, dir: &Path) -> Command {
    let mut command = Command::new("aria2c");
    command
        .args([
            "--no-conf",
            "--enable-dht=false",
            "--enable-dht6=false",
            "--bt-enable-lpd=false",
        ])
        .args(["--enable-peer-exchange=false", "--disable-ipv6=true"])
        .arg(format!("--interface={}", place.ip))
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

fn transmission(
    place: Place<'_>,
    demand: Demand,
    part: Part,
    source: &str,
    (dir, home): (&Path, &Path),
) -> Command {
    // 0 is with plain handshakes preferred, 2 without them.
    let (encryption, flag) = match demand {
        Demand::Any | Demand::Utp => (1, "-et"),
        Demand::Handshake | Demand::Stream => (2, "-er"),
    };
    let settings = serde_json::json!({
        "bind-address-ipv4": place.ip, "dht-enabled": !place.nodes.is_empty(),
        "utp-enabled": demand == Demand::Utp, "lpd-enabled": false, "pex-enabled": false, "port-forwarding-enabled": false, "download-queue-enabled": false,
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

/// A libtorrent that knows one peer at most.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) addr: SocketAddr,
    namespace: Option<&'a Namespace>,
    demand: Demand,
    peer: Option<SocketAddr>,
    is_slow: bool,
}

impl<'a> Spot<'a> {
    /// At a free port of loopback.
    pub(crate) fn free() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())))
    }

    fn at(addr: SocketAddr) -> Self {
        Self {
            addr,
            namespace: None,
            demand: Demand::Any,
            peer: None,
            is_slow: false,
        }
    }

    /// At an address of a namespace.
    pub(crate) fn inside(namespace: &'a Namespace, addr: &str) -> Self {
        Self {
            namespace: Some(namespace),
            ..Self::at(addr.parse().unwrap())
        }
    }

    /// Over nothing but uTP. Without this it uses TCP.
    pub(crate) const fn over_utp(mut self) -> Self {
        self.demand = Demand::Utp;
        self
    }

    pub(crate) const fn knowing(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Moves so few bytes a second that it is of no use to anybody.
    pub(crate) const fn slow(mut self) -> Self {
        self.is_slow = true;
        self
    }

    /// Seeds what a scene has published, or downloads to [`Spot::taken`], from a home of this name.
    pub(crate) fn start(self, scene: &Scene, name: &str, part: Part) -> Running {
        let taken = Self::taken(scene, name);
        let dir = match part {
            Part::Seed => scene.payload.parent(),
            Part::Leech => &taken,
        };
        let mut command = libtorrent(part, scene.torrent(), dir, self.addr);
        command.args(self.peer.map(|peer| peer.to_string()));
        command.env("LT_PEER_DEMAND", format!("{:?}", self.demand));
        if self.is_slow {
            command.env("LT_PEER_RATE", "4096");
        }
        Client::Libtorrent.spawn(inside(self.namespace, command), &scene.dir(name))
    }

    /// Where a leecher of this name puts things.
    pub(crate) fn taken(scene: &Scene, name: &str) -> PathBuf {
        scene.dir(&format!("of {name}"))
    }
}

fn libtorrent(part: Part, source: &str, dir: &Path, addr: SocketAddr) -> Command {
    let mut command = Command::new(python().unwrap());
    let part = if part == Part::Seed { "seed" } else { "leech" };
    command
        .arg(libtorrent_script())
        .args([part, source])
        .arg(dir)
        .arg(addr.to_string());
    command
}
