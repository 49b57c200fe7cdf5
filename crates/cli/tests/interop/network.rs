//! A network namespace of a test's own, in which it may spoil the loopback.

use std::process::Command;

/// Set for the test that runs inside.
const INSIDE: &str = "RIVERRUN_TEST_INSIDE_NETWORK";

/// Whether this is the test `name` inside a network of its own, where `rule` (of nftables) holds for all that comes in.
/// If not, runs it there, and fails if it does. Without the rights for it, or the tools, says so and does nothing.
pub(crate) fn inside_network(name: &str, rule: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let network = format!("riverrun-{}", std::process::id());
    if !run(&["ip", "netns", "add", &network]) {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "network namespaces must be allowed in CI");
        eprintln!("skipped: no network namespace can be made: {name}");
        return false;
    }
    let network = Network(network);
    assert!(network.run(&["ip", "link", "set", "lo", "up"]));
    let chain = "{ type filter hook input priority 0; }";
    assert!(network.run(&["nft", "add", "table", "inet", "test"]));
    assert!(network.run(&["nft", "add", "chain", "inet", "test", "input", chain]));
    assert!(network.run(&["nft", "add", "rule", "inet", "test", "input", rule]));
    let test = std::env::current_exe().unwrap();
    let inside = Command::new("ip")
        .args(["netns", "exec", &network.0])
        .arg(test)
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(inside.unwrap().success(), "{name} fails inside its network");
    false
}

struct Network(String);

impl Network {
    fn run(&self, command: &[&str]) -> bool {
        run(&[&["ip", "netns", "exec", &self.0], command].concat())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = run(&["ip", "netns", "delete", &self.0]);
    }
}

fn run(command: &[&str]) -> bool {
    let output = Command::new(command[0]).args(&command[1..]).output();
    output.is_ok_and(|output| output.status.success())
}
