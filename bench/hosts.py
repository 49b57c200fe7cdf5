"""Hosts of this machine's own making: network namespaces around a bridge in one more namespace.

Nothing outside of these namespaces is touched, and their names carry this process's number, so that two runs do not
meet. Uplinks are held by a token bucket (tbf) at each host.
"""

import os
import subprocess


def ip(*args, inside=None):
    prefix = ["ip", "netns", "exec", inside] if inside else []
    subprocess.run([*prefix, *args], check=True, capture_output=True)


class Hosts:
    """`count` hosts. `ups` has the uplinks of those that are limited, in Mbit/s."""

    def __init__(self, count, ups=None):
        self.bridge = f"rrb{os.getpid()}"
        self.names = [f"{self.bridge}-{n}" for n in range(count)]
        self.made = []
        try:
            self._make(ups or {})
        except subprocess.CalledProcessError as error:
            self.close()
            raise SystemExit(f"cannot make hosts: {' '.join(error.cmd)}: {error.stderr.decode().strip()}") from error

    def _namespace(self, name):
        ip("ip", "netns", "add", name)
        self.made.append(name)
        ip("ip", "link", "set", "lo", "up", inside=name)

    def _make(self, ups):
        self._namespace(self.bridge)
        ip("ip", "link", "add", "br0", "type", "bridge", inside=self.bridge)
        ip("ip", "addr", "add", f"{self.tracker_address}/24", "dev", "br0", inside=self.bridge)
        ip("ip", "link", "set", "br0", "up", inside=self.bridge)
        for n, name in enumerate(self.names):
            self._namespace(name)
            ip("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"p{n}", "netns", self.bridge)
            ip("ip", "link", "set", f"p{n}", "master", "br0", "up", inside=self.bridge)
            ip("ip", "addr", "add", f"{self.address(n)}/24", "dev", "eth0", inside=name)
            ip("ip", "link", "set", "eth0", "up", inside=name)
            ip("ip", "route", "add", "default", "via", self.tracker_address, inside=name)
            self._limit(name, "eth0", ups.get(n))

    @staticmethod
    def _limit(namespace, device, mbit):
        if mbit:
            shape = ["tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "100ms"]
            ip("tc", "qdisc", "add", "dev", device, "root", *shape, inside=namespace)

    tracker_address = "10.77.0.254"

    @staticmethod
    def address(n):
        return f"10.77.0.{n + 1}"

    def sent_bytes(self, n):
        """What host `n` has put on its link, headers included."""
        path = "/sys/class/net/eth0/statistics/tx_bytes"
        read = ["ip", "netns", "exec", self.names[n], "cat", path]
        return int(subprocess.run(read, check=True, capture_output=True).stdout)

    def close(self):
        for name in reversed(self.made):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        self.made = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
