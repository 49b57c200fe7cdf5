"""What is measured: creating, verifying, one pair of peers, one leecher of many seeders, a crowd."""

import filecmp
import fnmatch
import os
import platform
import random
import shutil
import subprocess
import sys
import time

from clients import available
from hosts import Hosts
from process import Process

GB = 1e9
PIECE_LEN = 1 << 20
VERSIONS = ["v1", "v2", "hybrid"]
# Crowds: how many leechers, their uplinks in turn and the seeder's, in Mbit/s, the version of the metadata, and the
# piece length; without one, what `riverrun create` chooses.
CROWDS = {
    "8": (8, [20], 20, "v1", None),
    "8, hybrid": (8, [20], 20, "hybrid", None),
    "8, v2": (8, [20], 20, "v2", None),
    "8, pieces of 256 KiB": (8, [20], 20, "v1", 256 << 10),
    "8, v2, pieces of 256 KiB": (8, [20], 20, "v2", 256 << 10),
    "24": (24, [20], 20, "v1", None),
    "9 at 5, 20, 80 Mbit/s": (9, [5, 20, 80], 20, "v1", None),
    "8, seeder at 10 Mbit/s": (8, [20], 10, "v1", None),
}
# One leecher of many: how many seeders, and the uplink of each in Mbit/s.
MANY = (30, 20)
# How much of a link is payload at most. A link that is held by tbf counts whole frames: 14 bytes of Ethernet, 20 of IPv4,
# 32 of TCP with timestamps, in 1514; and each block of 16 KiB has a head of 13 bytes.
PAYLOAD_SHARE = 1448 / 1514 * (1 << 14) / ((1 << 14) + 13)
# For one transfer, or to get ready for it.
PATIENCE_S = 600


def bytes_of(text):
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(float(text[:-1]) * units[text[-1]]) if text[-1] in units else int(text)


def payload(path, total):
    """The same random bytes for each run."""
    source = random.Random(total)
    with open(path, "wb") as out:
        while total:
            count = min(total, 1 << 24)
            out.write(source.randbytes(count))
            total -= count


def foreign_load(before, after, own_s):
    """CPU seconds that went to others than those measured."""
    return max(0.0, after - before - own_s)


def busy_s():
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, program, plain, place, root, args):
        self.program, self.place, self.root, self.args = program, place, root, args
        self.clients = available(program, plain)
        wanted = args.clients.split(",")
        self.peers = [client for client in self.clients if hasattr(client, "command") and client.name in wanted]

    def run(self, names):
        """What was measured, by name, each with what it was made with."""
        made = {**self.machine(), "rounds": self.args.rounds}
        return {name: {"made": made, "runs": getattr(self, name)()} for name in names}

    def machine(self):
        with open("/proc/cpuinfo") as info:
            model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), "")
        version = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.strip()
        commit = ["git", "-C", self.root, "describe", "--always", "--dirty"]
        commit = subprocess.run(commit, capture_output=True, text=True).stdout.strip()
        return {
            "processor": model,
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "program": f"{version} ({commit})",
        }

    def say(self, what, client, figures):
        text = "  ".join(f"{key} {value:.3g}" for key, value in figures.items() if isinstance(value, (int, float)))
        print(f"{what:16} {client:10} {text}", file=sys.stderr, flush=True)

    # Files: creating and verifying, from the page cache.

    def source(self):
        path = self.place / "payload.bin"
        total = bytes_of(self.args.size)
        if not path.exists():
            payload(path, total)
        return path, total

    def files(self, what, argv_of):
        """Runs of one command for each version and client; gives rates and CPU seconds."""
        path, total = self.source()
        found = []
        for turn in range(self.args.rounds):
            for version in VERSIONS:
                clients = [client for client in self.clients if hasattr(client, what)]
                # Who goes first changes, so that what warms up does so for each.
                for client in clients if turn % 2 else reversed(clients):
                    busy = busy_s()
                    process = Process(argv_of(client, version, path), self.place / "log")
                    process.wait()
                    wall, cpu = client.work(self.place / "log", process)
                    figures = {
                        "wall_s": wall,
                        "rate": total / wall / GB,
                        "cpu_s_per_gb": cpu / (total / GB),
                        "foreign_s": foreign_load(busy, busy_s(), cpu),
                    }
                    self.say(f"{what} {version}", client.name, figures)
                    found.append({"turn": turn, "case": version, "client": client.name, **figures})
        return found

    def torrent(self, client, version):
        return self.place / f"{client.name}-{version}.torrent"

    def create(self):
        def argv(client, version, path):
            return client.create(version, PIECE_LEN, path, self.torrent(client, version))

        return self.files("create", argv)

    def verify(self):
        path, _ = self.source()
        for version in VERSIONS:
            for client in self.clients:
                if hasattr(client, "verify") and not self.torrent(client, version).exists():
                    argv = client.create(version, PIECE_LEN, path, self.torrent(client, version))
                    Process(argv, self.place / "log").wait()

        def argv(client, version, path):
            return client.verify(self.torrent(client, version), path.parent)

        return self.files("verify", argv)

    # Transfers, between hosts of our own making.

    def tracked(self, path, tracker, version, piece_len):
        """A torrent of `path`."""
        torrent = self.place / "transfer.torrent"
        piece = ["--piece", str(piece_len)] if piece_len else []
        flags = [f"--{version}", *piece, "--force", "--tracker", tracker, "-o", torrent]
        run = [self.program, "-q", "create", *flags, path]
        subprocess.run(run, check=True, env={**os.environ, "HOME": str(self.place)})
        return torrent

    def transfer(self, seeder, leecher, hosts, path, piece_len, version="v1", seeders=1):
        """Seeders on the first hosts, a leecher on each other; gives figures, once all copies are compared."""
        address = f"{hosts.tracker_address}:6969"
        torrent = self.tracked(path, f"http://{address}/announce", version, piece_len)
        work = self.place / "transfer"
        shutil.rmtree(work, ignore_errors=True)
        started, seeds, leechers = [], [], []

        def start(client, role, n, data):
            home = work / f"home{n}"
            home.mkdir(parents=True)
            argv, env = client.command(role, torrent, data, hosts.address(n), home)
            process = Process(argv, work / f"log{n}", hosts.names[n], env)
            started.append(process)
            return process, work / f"log{n}", home

        try:
            work.mkdir()
            tracker = [self.program, "-q", "tracker", "--http", address]
            started.append(Process(tracker, work / "tracker", hosts.bridge, {"HOME": str(work)}))
            for n in range(seeders):
                seed, log, home = start(seeder, "seed", n, path.parent)
                self.until(lambda: seeder.is_ready(log, home), seed)
                seeds.append(seed)
            # What they did to get ready is not the transfer.
            seed_cpu, sent = sum(seed.cpu_s() for seed in seeds), hosts.sent_bytes(0)
            begin, busy = time.monotonic(), busy_s()
            for n in range(seeders, len(hosts.names)):
                data = work / f"data{n}"
                data.mkdir()
                leechers.append((*start(leecher, "leech", n, data), data))
            times, cpus, peaks = {}, {}, {}
            while len(times) < len(leechers):
                for n, (process, log, home, _) in enumerate(leechers):
                    if n not in times and leecher.is_done(log, home):
                        times[n], cpus[n] = time.monotonic() - begin, process.cpu_s()
                        peaks[n] = process.anonymous_peak
                    elif n not in times and not process.is_running():
                        raise RuntimeError(f"{leecher.name} ended early: {log.read_text()[-500:]}")
                if time.monotonic() - begin > PATIENCE_S:
                    raise TimeoutError(f"{leecher.name}: {len(times)} of {len(leechers)} done in {PATIENCE_S} s")
                time.sleep(0.005)
            seed_cpu = sum(seed.cpu_s() for seed in seeds) - seed_cpu
            figures = {
                "times": sorted(times.values()),
                "leecher_cpu_s": sum(cpus.values()) / len(cpus),
                "seeder_cpu_s": seed_cpu,
                "leecher_peak": max(peaks.values()),
                "seeder_peak": max(seed.anonymous_peak for seed in seeds),
                "seeder_sent": hosts.sent_bytes(0) - sent,
                "foreign_s": foreign_load(busy, busy_s(), sum(cpus.values()) + seed_cpu),
            }
        finally:
            for process in reversed(started):
                process.stop()
        for *_, data in leechers:
            if not filecmp.cmp(path, data / path.name, shallow=False):
                raise RuntimeError(f"{leecher.name}: the copy in {data} is not the original")
        shutil.rmtree(work, ignore_errors=True)
        return figures

    @staticmethod
    def until(is_so, process):
        while not is_so():
            if not process.is_running():
                raise RuntimeError(f"{process.popen.args} ended early, see {process.log.name}")
            if time.monotonic() - process.started > PATIENCE_S:
                raise TimeoutError(f"{process.popen.args}: not ready in {PATIENCE_S} s")
            time.sleep(0.02)

    def pair(self):
        """One seeder, one leecher, links as fast as the machine."""
        path, total = self.source()
        found = []
        for turn in range(self.args.rounds):
            for client in self.peers if turn % 2 else reversed(self.peers):
                with Hosts(2) as hosts:
                    run = self.transfer(client, client, hosts, path, PIECE_LEN)
                figures = {
                    "wall_s": run["times"][-1],
                    "rate": total / run["times"][-1] / GB,
                    "leecher_cpu_s_per_gb": run["leecher_cpu_s"] / (total / GB),
                    "seeder_cpu_s_per_gb": run["seeder_cpu_s"] / (total / GB),
                    "leecher_peak_mib": run["leecher_peak"] / (1 << 20),
                    "seeder_peak_mib": run["seeder_peak"] / (1 << 20),
                    "foreign_s": run["foreign_s"],
                }
                self.say("pair", client.name, figures)
                found.append({"turn": turn, "case": "pair", "client": client.name, **figures})
        return found

    def many(self):
        """One leecher whose link is free, and seeders whose links are not."""
        path, total = self.source()
        count, up = MANY
        bound = total * 8 / 1e6 / (count * up * PAYLOAD_SHARE)
        found = []
        for turn in range(self.args.rounds):
            for client in self.peers if turn % 2 else reversed(self.peers):
                with Hosts(count + 1, ups=dict.fromkeys(range(count), up)) as hosts:
                    run = self.transfer(client, client, hosts, path, PIECE_LEN, seeders=count)
                figures = {
                    "wall_s": run["times"][-1],
                    "rate": total / run["times"][-1] / GB,
                    "share": bound / run["times"][-1],
                    "leecher_cpu_s_per_gb": run["leecher_cpu_s"] / (total / GB),
                    "seeder_cpu_s_per_gb": run["seeder_cpu_s"] / (total / GB),
                    "leecher_peak_mib": run["leecher_peak"] / (1 << 20),
                    "foreign_s": run["foreign_s"],
                }
                self.say("many", client.name, figures)
                found.append({"turn": turn, "case": "many", "client": client.name, **figures})
        return found

    def crowd(self):
        """One seeder, and leechers that come at once."""
        total = bytes_of(self.args.crowd_size)
        place = self.place / "crowd"
        place.mkdir(exist_ok=True)
        path = place / "crowd.bin"
        payload(path, total)
        found = []
        for case, (count, ups, seed_up, version, piece_len) in CROWDS.items():
            if not fnmatch.fnmatch(case, self.args.cases):
                continue
            clients = [client for client in self.peers if version in client.versions]
            rates = {0: seed_up, **{n: ups[(n - 1) % len(ups)] for n in range(1, count + 1)}}
            # The seeder has to send all once; all uplinks together have to carry a copy for each.
            bound = total * 8 / 1e6 * max(1 / seed_up, count / sum(rates.values()))
            for turn in range(self.args.rounds):
                for client in clients if turn % 2 else reversed(clients):
                    with Hosts(count + 1, ups=rates) as hosts:
                        run = self.transfer(client, client, hosts, path, piece_len, version)
                    figures = {
                        "bound_s": bound,
                        "slowest_by_bound": run["times"][-1] / bound,
                        "mean_by_bound": sum(run["times"]) / count / bound,
                        "seeder_copies": run["seeder_sent"] / total,
                        "leecher_cpu_s": run["leecher_cpu_s"],
                        "times": run["times"],
                        "foreign_s": run["foreign_s"],
                    }
                    self.say(f"crowd {case}", client.name, figures)
                    found.append({"turn": turn, "case": case, "client": client.name, **figures})
        return found
