"""A program that is measured: its CPU time and its memory, as the kernel counts them."""

import os
import signal
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
# A peak between two looks is missed; memory that is held for less does not matter.
LOOK_INTERVAL_S = 0.02


class Process:
    """Runs `argv`, in a network namespace if one is named."""

    def __init__(self, argv, log, namespace=None, env=None):
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        self.log = open(log, "wb")
        self.started = time.monotonic()
        self.popen = subprocess.Popen(
            [*inside, *map(str, argv)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
        self.anonymous_peak = 0
        self.usage = None
        self.watch = threading.Thread(target=self._look, daemon=True)
        self.watch.start()

    def _look(self):
        while self.usage is None:
            try:
                with open(f"/proc/{self.popen.pid}/status") as status:
                    for line in status:
                        if line.startswith("RssAnon:"):
                            self.anonymous_peak = max(self.anonymous_peak, int(line.split()[1]) * 1024)
            except OSError:
                return
            time.sleep(LOOK_INTERVAL_S)

    def cpu_s(self):
        """CPU seconds so far, user and system, of all threads."""
        if self.usage:
            return self.usage.ru_utime + self.usage.ru_stime
        try:
            with open(f"/proc/{self.popen.pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except OSError:
            return self.usage.ru_utime + self.usage.ru_stime if self.usage else 0.0
        return (int(fields[11]) + int(fields[12])) / TICKS

    def is_running(self):
        if self.usage is None:
            pid, status, usage = os.wait4(self.popen.pid, os.WNOHANG)
            if pid:
                self.usage, self.popen.returncode = usage, os.waitstatus_to_exitcode(status)
        return self.usage is None

    def wait(self, timeout_s=600):
        """Waits for the end; gives the wall time of the whole run."""
        while self.is_running():
            if time.monotonic() - self.started > timeout_s:
                self.stop()
                raise TimeoutError(f"{self.popen.args}: not done in {timeout_s} s")
            time.sleep(0.002)
        wall = time.monotonic() - self.started
        self.log.close()
        if self.popen.returncode:
            raise RuntimeError(f"{self.popen.args}: exit {self.popen.returncode}, see {self.log.name}")
        return wall

    def stop(self, grace_s=5):
        """Asks it to end, and ends it if it does not."""
        if self.is_running():
            self.popen.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while self.is_running() and time.monotonic() < deadline:
                time.sleep(0.02)
        if self.is_running():
            self.popen.kill()
            _, status, self.usage = os.wait4(self.popen.pid, 0)
            self.popen.returncode = os.waitstatus_to_exitcode(status)
        self.log.close()
