"""The contenders: how each is started, and how it says that it is done."""

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PORT = 6881


class Riverrun:
    name = "riverrun"
    # Of metadata: what it can transfer.
    versions = ("v1", "v2", "hybrid")

    def __init__(self, program):
        self.program = program

    def command(self, role, torrent, data, address, home):
        verb = "seed" if role == "seed" else "get"
        quiet = ["--no-dht", "--no-lsd", "--no-port-map"]
        flags = ["-o", data, "--listen", f"{address}:{PORT}", *quiet, *(["--seed"] if role != "seed" else [])]
        home = str(home)
        env = {"HOME": home, "XDG_STATE_HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        return [self.program, "--json", verb, torrent, *flags], env

    @staticmethod
    def is_done(log, _home):
        return b'"event":"done"' in log.read_bytes().replace(b" ", b"")

    @staticmethod
    def is_ready(log, _home):
        return b'"event":"seeding"' in log.read_bytes().replace(b" ", b"")

    def create(self, version, piece_len, source, torrent):
        flags = [f"--{version}", "--piece", str(piece_len), "--force", "-o", torrent]
        return [self.program, "--json", "create", *flags, source]

    def verify(self, torrent, data):
        return [self.program, "--json", "verify", torrent, data]

    @staticmethod
    def work(log, process):
        """Wall and CPU seconds of what was asked for."""
        events = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
        done = next(event for event in events if event["event"] == "done")
        return done["bytes"] / done["bytes_per_s"], process.cpu_s()


class Libtorrent:
    """With its default settings, but TCP: uTP on one machine measures the processor."""

    name = "libtorrent"
    versions = ("v1", "v2", "hybrid")
    script = HERE / "libtorrent_client.py"

    def _argv(self, *args):
        return [sys.executable, "-W", "ignore", self.script, *args]

    def command(self, role, torrent, data, address, home):
        return self._argv("transfer", torrent, data, f"{address}:{PORT}", home / "done"), {}

    @staticmethod
    def is_done(_log, home):
        return (home / "done").exists()

    is_ready = is_done

    def create(self, version, piece_len, source, torrent):
        return self._argv("create", version, str(piece_len), source, torrent)

    def verify(self, torrent, data):
        return self._argv("verify", torrent, data)

    @staticmethod
    def work(log, _process):
        """Without the start of Python."""
        last = json.loads(log.read_text().splitlines()[-1])
        return last["wall_s"], last["cpu_s"]


class Plain:
    """No client: a loop that reads and hashes with our kernels and does nothing else."""

    name = "plain loop"

    def __init__(self, program):
        self.program = program

    def create(self, version, piece_len, source, _torrent):
        return [self.program, "--piece", str(piece_len), version, source]

    work = staticmethod(Libtorrent.work)


class Aria2:
    name = "aria2"
    # It reads the v1 half of a hybrid only.
    versions = ("v1",)

    @staticmethod
    def command(role, torrent, data, _address, home):
        hook = home / "hook"
        hook.write_text(f"#!/bin/sh\ntouch {home / 'done'}\n")
        hook.chmod(0o755)
        silent = ["--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--disable-ipv6=true"]
        talk = ["--console-log-level=warn", "--summary-interval=0"]
        free = ["--seed-ratio=0.0", "--bt-max-peers=0", "--file-allocation=none", "--allow-overwrite=true"]
        check = ["--check-integrity=true"] if role == "seed" else []
        place = [f"--dir={data}", f"--listen-port={PORT}", f"--on-bt-download-complete={hook}"]
        return ["aria2c", *check, *place, *silent, *talk, *free, torrent], {"HOME": str(home)}

    @staticmethod
    def is_done(_log, home):
        return (home / "done").exists()

    is_ready = is_done


def available(program, plain):
    """Those that are here, ours first."""
    found = [Riverrun(program), Libtorrent(), Plain(plain)]
    if shutil.which("aria2c"):
        found.append(Aria2())
    return found
