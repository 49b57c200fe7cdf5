"""libtorrent as a program: creates, verifies, or transfers one torrent with the settings it comes with.

Over TCP, or over uTP if LT_TRANSPORT is "utp".
"""

import json
import os
import signal
import sys
import time

import libtorrent as lt


class Timer:
    """Wall and CPU time of the work, without the start of Python."""

    def __init__(self):
        self.wall, self.cpu = time.monotonic(), time.process_time()

    def tell(self):
        wall, cpu = time.monotonic() - self.wall, time.process_time() - self.cpu
        print(json.dumps({"wall_s": wall, "cpu_s": cpu}), flush=True)


def create(version, piece_len, source, torrent):
    # `v1_only` has no name in the bindings.
    flags = {"v1": 1 << 6, "v2": lt.create_torrent_flags_t.v2_only, "hybrid": 0}[version]
    files = lt.file_storage()
    lt.add_files(files, source)
    begin = Timer()
    made = lt.create_torrent(files, int(piece_len), flags)
    lt.set_piece_hashes(made, os.path.dirname(source))
    with open(torrent, "wb") as out:
        out.write(lt.bencode(made.generate()))
    begin.tell()


def session(listen=""):
    categories = lt.alert.category_t
    utp = os.environ.get("LT_TRANSPORT") == "utp"
    return lt.session(
        {
            "listen_interfaces": listen,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": utp,
            "enable_incoming_utp": utp,
            "enable_outgoing_tcp": not utp,
            "enable_incoming_tcp": not utp,
            "alert_mask": categories.status_notification | categories.error_notification,
        }
    )


def add(session, torrent, data):
    params = lt.add_torrent_params()
    params.ti, params.save_path = lt.torrent_info(torrent), data
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    return session.add_torrent(params)


def alerts(session):
    while True:
        session.wait_for_alert(200)
        for alert in session.pop_alerts():
            if "error" in type(alert).__name__:
                print(alert, flush=True)
            yield alert


def verify(torrent, data):
    own = session()
    begin = Timer()
    handle = add(own, torrent, data)
    for alert in alerts(own):
        if isinstance(alert, lt.torrent_checked_alert):
            begin.tell()
            sys.exit(0 if handle.status().is_seeding else 1)


def transfer(torrent, data, listen, done):
    own = session(listen)
    handle = add(own, torrent, data)
    for alert in alerts(own):
        finished = isinstance(alert, lt.torrent_finished_alert)
        if finished or (isinstance(alert, lt.torrent_checked_alert) and handle.status().is_seeding):
            with open(f"{done}.part", "w") as out:
                out.write(str(time.time()))
            os.rename(f"{done}.part", done)


if __name__ == "__main__":
    # Ends as a program does that writes what it holds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    {"create": create, "verify": verify, "transfer": transfer}[sys.argv[1]](*sys.argv[2:])
