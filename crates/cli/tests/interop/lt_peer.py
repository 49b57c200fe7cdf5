"""A libtorrent peer for the interop tests, bound to one address, of IPv4.

    lt_peer.py seed|leech TORRENT_OR_MAGNET DIR HOST:PORT [PEER_HOST:PEER_PORT]
    lt_peer.py create v1|v2|hybrid PATH PIECE_LENGTH

seed and leech print one word a line: "ready" once the session runs with its data checked, "done" once
complete; they end when standard input does. LT_PEER_DEMAND, if set, is "Handshake" or "Stream": how much has to be
encrypted; or "Utp": no TCP. LT_PEER_RATE, if set, is how many bytes a second it moves at most. LT_PEER_DHT, if set, is
the HOST:PORT of a DHT node: then the session is a node too. create prints the info dictionary's hashes, v1 then v2, "-"
for none.
"""

import os
import sys
import threading
import time

import libtorrent as lt


def encryption():
    level = {"Handshake": 1, "Stream": 2}.get(os.environ.get("LT_PEER_DEMAND"))
    if level is None:
        return {}
    # Forced in both directions; level 1 is plain payload, 2 is RC4.
    return {"in_enc_policy": 0, "out_enc_policy": 0, "allowed_enc_level": level}


def dht():
    entry = os.environ.get("LT_PEER_DHT")
    if entry is None:
        return {"enable_dht": False}
    # All nodes have one address here.
    return {
        "enable_dht": True,
        "dht_bootstrap_nodes": entry,
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_ignore_dark_internet": False,
        "dht_block_ratelimit": 1000,
    }


def session(addr):
    utp = os.environ.get("LT_PEER_DEMAND") == "Utp"
    return lt.session({
        **encryption(),
        **dht(),
        "listen_interfaces": addr,
        "outgoing_interfaces": "",
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": utp,
        "enable_incoming_utp": utp,
        "enable_outgoing_tcp": not utp,
        "enable_incoming_tcp": not utp,
        "allow_multiple_connections_per_ip": True,
        "ssrf_mitigation": False,
        "min_reconnect_time": 1,
        "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.status_notification
        | lt.alert.category_t.peer_notification | lt.alert.category_t.storage_notification
        | lt.alert.category_t.dht_notification,
    })


def parameters(source, directory):
    if source.startswith("magnet:"):
        parameters = lt.parse_magnet_uri(source)
    else:
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(source)
    parameters.save_path = directory
    return parameters


def transfer(role, source, directory, addr, known):
    peer = session(addr)
    added = parameters(source, directory)
    if role == "seed":
        added.flags |= lt.torrent_flags.seed_mode
    added.flags &= ~lt.torrent_flags.auto_managed
    added.flags &= ~lt.torrent_flags.paused
    torrent = peer.add_torrent(added)
    rate = int(os.environ.get("LT_PEER_RATE", 0))
    if rate:
        torrent.set_upload_limit(rate)
        torrent.set_download_limit(rate)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    if known:
        host, port = known.split(":")
        known = (host, int(port))
    said_ready = is_flushing = False
    connected_at = 0
    while not ended.wait(0.02):
        for alert in peer.pop_alerts():
            print(alert.message(), file=sys.stderr)
            if isinstance(alert, lt.dht_bootstrap_alert):
                # A torrent that is there before the DHT waits up to a quarter of an hour for its turn.
                torrent.force_dht_announce()
            if is_flushing and isinstance(alert, lt.cache_flushed_alert):
                print("done", flush=True)
        status = torrent.status()
        if not said_ready and (status.is_seeding or role == "leech"):
            print("ready", flush=True)
            said_ready = True
        # Others may have dialled us meanwhile: what counts is whether this one is there.
        if known and time.monotonic() - connected_at > 1 and all(info.ip != known for info in torrent.get_peer_info()):
            torrent.connect_peer(known)
            connected_at = time.monotonic()
        if not is_flushing and status.is_seeding:
            # Complete in memory; "done" waits for the disk.
            torrent.flush_cache()
            is_flushing = True


def create(version, path, piece_length):
    flags = {
        "v1": lt.create_torrent.v1_only,
        "v2": lt.create_torrent.v2_only,
        "hybrid": 0,
    }[version]
    # libtorrent itself orders v2 and hybrid torrents as their file tree; a v1 torrent keeps the order given.
    files = sorted(lt.list_files(path), key=lambda file: os.fsencode(file.filename).split(b"/"))
    torrent = lt.create_torrent(files, int(piece_length), flags)
    lt.set_piece_hashes(torrent, os.path.dirname(os.path.abspath(path)))
    info = lt.torrent_info(torrent.generate())
    hashes = info.info_hashes()
    print(hashes.v1 if hashes.has_v1() else "-", hashes.v2 if hashes.has_v2() else "-")


if __name__ == "__main__":
    if sys.argv[1] == "create":
        create(*sys.argv[2:5])
    else:
        transfer(*sys.argv[1:5], sys.argv[5] if len(sys.argv) > 5 else None)
