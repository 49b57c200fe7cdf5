//! Two homes behind NATs, and a world between them: who is in neither cannot dial into either (BEP 55).

use crate::clients::{Client, Part, Running, Spot};
use crate::netns::{FORWARD, Namespace, wire};
use crate::payload::Shape;
use crate::riverrun::Riverrun;
use crate::scene::Scene;

/// The world's address, where the one in the middle is.
const MIDDLE: &str = "10.88.0.1";

/// A home router: what goes out gets its address, and only answers come in. What comes for nobody is dropped without a
/// trace, as routers do.
const ROUTER: &str = "\
table inet nat {
  chain out {
    type nat hook postrouting priority srcnat
    oifname wan masquerade
  }
  chain through {
    type filter hook forward priority filter
    iifname wan ct state != { established, related } drop
  }
  chain into {
    type filter hook input priority filter
    iifname wan drop
  }
}";

/// How many reports, of which one comes a second, until a peer has been told of others, and will not be for a minute.
const HEARD_OF_NOBODY: u32 = 7;

/// Two homes with their routers, and the world that these are in.
struct Homes {
    world: Namespace,
    _routers: [Namespace; 2],
    hosts: [Namespace; 2],
}

impl Homes {
    /// `None`, and said, if we may not make namespaces.
    fn build() -> Option<Self> {
        let world = Namespace::make("world")?;
        world.ip("link add street type bridge");
        world.ip(&format!("addr add {MIDDLE}/24 dev street"));
        world.ip("link set street up");
        let [first, second] = [2, 3].map(|at| home(&world, at));
        let ((router, host), (other_router, other_host)) = (first?, second?);
        Some(Self {
            world,
            _routers: [router, other_router],
            hosts: [host, other_host],
        })
    }
}

/// A router in the world's street, of this number there, and a host behind it.
fn home(world: &Namespace, number: u8) -> Option<(Namespace, Namespace)> {
    let (router, host) = (Namespace::make("router")?, Namespace::make("host")?);
    let door = format!("door{number}");
    router.ip(&format!(
        "link add wan type veth peer name {door} netns {}",
        world.name()
    ));
    world.ip(&format!("link set {door} master street up"));
    router.ip(&format!("addr add 10.88.0.{number}/24 dev wan"));
    router.ip("link set wan up");
    let home = format!("192.168.{number}");
    wire(((&router, "lan"), (&host, "eth0")), &home, ["1", "2"]);
    host.ip(&format!("route add default via {home}.1"));
    router.run(&FORWARD);
    router.run(&["nft", ROUTER]);
    Some((router, host))
}

/// Who has a part in a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    We,
    /// libtorrent.
    They,
}

/// The one in the middle hardly takes or sends anything: by it alone the download would take an hour.
const HARDLY: [&str; 4] = ["--limit", "4K", "--limit-up", "1K"];

/// Looks for peers nowhere by itself.
const QUIET: [&str; 2] = ["--no-dht", "--no-port-map"];

/// Either of those who are told to end when the test does.
enum Other {
    Ours(Riverrun),
    Theirs(#[expect(dead_code, reason = "it ends when it is dropped")] Running),
}

impl Other {
    /// Waits until it has a peer and has been told of others, if it is ours.
    fn wait_until_told(&mut self) {
        let Self::Ours(ours) = self else { return };
        while ours.wait_for("progress")["peers"] == 0 {}
        for _ in 0..HEARD_OF_NOBODY {
            ours.wait_for("progress");
        }
    }
}

/// The one to whom both homes are connected.
fn middle(homes: &Homes, scene: &Scene, who: Who) -> Other {
    let (world, listen) = (&homes.world, format!("{MIDDLE}:7000"));
    if who == Who::They {
        let spot = Spot::inside(world, &listen).slow();
        return Other::Theirs(spot.start(scene, "middle", Part::Leech));
    }
    let get = ["get", scene.torrent(), "-o", "middle", "--listen", &listen];
    let get = [&get[..], &QUIET, &HARDLY].concat();
    let mut middle = Riverrun::start_in(Some(world), &scene.dir("middle"), &get);
    middle.wait_for("added");
    Other::Ours(middle)
}

/// The seed at home.
fn seed(homes: &Homes, scene: &Scene, who: Who) -> Other {
    let [host, _] = &homes.hosts;
    if who == Who::They {
        let spot = Spot::inside(host, "192.168.2.2:7001").over_utp();
        let spot = spot.knowing(format!("{MIDDLE}:7000").parse().unwrap());
        return Other::Theirs(spot.start(scene, "seeder", Part::Seed));
    }
    let known = format!("{MIDDLE}:7000");
    let more = [&QUIET[..], &["--listen", "7001", "--peer", &known]].concat();
    Other::Ours(scene.seed_in(Some(host), "seeder", &more).0)
}

/// Has the other home take what the seed has.
fn take(homes: &Homes, scene: &Scene, who: Who) {
    let [_, host] = &homes.hosts;
    let known = format!("{MIDDLE}:7000");
    if who == Who::They {
        let spot = Spot::inside(host, "192.168.3.2:7002").over_utp();
        let spot = spot.knowing(known.parse().unwrap());
        spot.start(scene, "ours", Part::Leech).wait_complete();
        let taken = Spot::taken(scene, "ours");
        return scene.payload.assert_copied_to(&taken, true);
    }
    let get = [scene.torrent(), "--listen", "7002", "--peer", &known];
    let get = scene.get_in(Some(host), &[&get[..], &QUIET].concat());
    get.end().assert(0, &[]);
    scene.assert_taken();
}

/// A download between homes that only the one in the middle can bring together.
fn meet(introduces: Who, gives: Who, takes: Who) {
    if [introduces, gives, takes].contains(&Who::They) && !Client::Libtorrent.is_here() {
        return;
    }
    let Some(homes) = Homes::build() else { return };
    let scene = Scene::set(Shape::Single, "--v1");
    let mut middle = middle(&homes, &scene, introduces);
    let mut seed = seed(&homes, &scene, gives);
    // By now the seeder has heard of nobody and will not for a minute, so that only the other one dials, in vain, and
    // has to ask for the meeting.
    let told = if introduces == Who::We {
        &mut middle
    } else {
        &mut seed
    };
    told.wait_until_told();
    take(&homes, &scene, takes);
}

#[test]
fn two_homes_behind_nats_meet_through_a_third_peer() {
    meet(Who::We, Who::We, Who::We);
}

#[test]
fn libtorrent_introduces_us_to_each_other() {
    meet(Who::They, Who::We, Who::We);
}

#[test]
fn libtorrent_asks_us_for_a_meeting_with_us() {
    meet(Who::We, Who::We, Who::They);
}

#[test]
fn libtorrent_follows_when_we_ask_for_a_meeting() {
    meet(Who::We, Who::They, Who::We);
}
