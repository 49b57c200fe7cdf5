//! A network namespace of a test's own, in which it may spoil the loopback.

use crate::netns::Namespace;

/// Set for the test that runs inside.
const INSIDE: &str = "RIVERRUN_TEST_INSIDE_NETWORK";

/// Whether this is the test `name` inside a network of its own, where `rule` (of nftables) holds for all that comes in.
/// If not, runs it there, and fails if it does. Without the rights for it, or the tools, says so and does nothing.
pub(crate) fn inside_network(name: &str, rule: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(network) = Namespace::make("loopback") else {
        return false;
    };
    let chain = format!("chain input {{ type filter hook input priority 0; {rule}\n }}");
    network.run(&["nft", &format!("table inet test {{ {chain}\n }}")]);
    let test = std::env::current_exe().unwrap();
    let mut inside = network.command(test);
    inside
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1");
    assert!(
        inside.status().unwrap().success(),
        "{name} fails inside its network"
    );
    false
}
