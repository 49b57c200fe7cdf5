-- Version 1. Both blobs of a torrent are sealed: 8 bytes of a SHA-256, then a bencoded dictionary.
CREATE TABLE torrent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- For people, and for naming a torrent whose record cannot be read.
    name TEXT NOT NULL,
    info_hash BLOB NOT NULL UNIQUE,
    -- What was said when it was added.
    addition BLOB NOT NULL,
    -- What has become of it since.
    standing BLOB NOT NULL
) STRICT;
-- Torrent files, also of magnet links that nobody keeps as torrents, by the names that they have on the wire.
CREATE TABLE metainfo (
    id INTEGER PRIMARY KEY,
    v1 BLOB UNIQUE,
    v2 BLOB UNIQUE,
    bytes BLOB NOT NULL
) STRICT;
