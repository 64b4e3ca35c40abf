"""The SQLite file under the spool: how it is locked, opened and migrated, and how its errors become ours.

The fold and the time series use these functions for their files, too::

    lock = lock(path)              # one process a file
    connection = connect(path)     # WAL, every commit synced
    migrate(connection, path, MIGRATIONS)
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pipeline.errors import Retry, Stop
from pipeline.files import private_files

MIGRATIONS = (
    """
    CREATE TABLE inbox(
        row INTEGER PRIMARY KEY, id TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB, received_at REAL NOT NULL,
        link TEXT NOT NULL, sha256 BLOB NOT NULL, done INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX inbox_by_topic ON inbox(topic, row) WHERE done = 0;
    CREATE INDEX inbox_done ON inbox(row) WHERE done = 1;
    CREATE TABLE link(name TEXT PRIMARY KEY, acknowledged INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE seen(row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
    CREATE TABLE outbox(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, hop TEXT NOT NULL, id TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
        created_at REAL NOT NULL, event TEXT NOT NULL, kind TEXT NOT NULL, privacy TEXT NOT NULL,
        UNIQUE(hop, id));
    CREATE INDEX outbox_by_hop ON outbox(hop, seq);
    CREATE INDEX outbox_by_event ON outbox(event) WHERE event <> '';
    """,
    """
    ALTER TABLE seen ADD COLUMN topic TEXT NOT NULL DEFAULT '';
    ALTER TABLE seen ADD COLUMN sha256 BLOB NOT NULL DEFAULT x'';
    UPDATE seen SET topic = inbox.topic, sha256 = inbox.sha256 FROM inbox WHERE inbox.id = seen.id;
    DELETE FROM inbox WHERE done = 1 AND link = 'camera';
    UPDATE inbox SET link = '' WHERE link = 'camera';
    DROP INDEX outbox_by_hop;
    CREATE INDEX outbox_by_topic ON outbox(hop, topic, seq);
    """,
    """
    CREATE TABLE tables(name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE inbox ADD COLUMN captured_at REAL;
    CREATE TABLE recent(topic TEXT NOT NULL, sha256 BLOB NOT NULL, id TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY(topic, sha256)) WITHOUT ROWID;
    CREATE INDEX recent_by_time ON recent(at);
    """,
)
"""One script a schema version; `PRAGMA user_version` counts how many were run. Only ever append."""

BUSY_TIMEOUT_S = 10.0
"""Time for which a writer waits while the other connection writes a checkpoint."""

WAL_KEEP_BYTES = 64 << 20
"""The write-ahead log is cut back to this size: a burst of frames would leave it large for ever."""

_UNSENT_STAYS = "unsent records stay in it"
_TRY_AGAIN = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
    }
)
_UNUSABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


class InUse(Stop):
    """Another process uses the file."""


def lock(path: Path) -> IO[bytes]:
    """Lock a file against other processes until the returned file is closed.

    Raises
    ------
    InUse
        Another process holds the lock.
    Stop
        The folder cannot be written.
    """
    name = path.with_name(path.name + ".lock")
    try:
        private_files.make_folder(path.parent)
        private_files.make_file(name)
        held = name.open("ab")
        for suffix in (
            "",
            "-wal",
            "-shm",
        ):  # files of an earlier release or a killed process: others could read them
            if (kept := path.with_name(path.name + suffix)).exists():
                private_files.make_file(kept)
    except OSError as error:
        raise Stop(
            f"cannot write to {path.parent} ({error}): make it writable, or name another `data` folder"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise InUse(
            f"{path} is in use by another agent: stop that, or give this one a `data` folder of its own"
        ) from None
    return held


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection for use under a lock, from any thread. Deleted rows are overwritten in the file."""
    private_files.make_file(path)  # SQLite's files beside it get the same mode
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a file without tables only
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEEP_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, path: Path, scripts: Sequence[str], if_moved: str = _UNSENT_STAYS) -> None:
    """Run the scripts that this file lacks; `if_moved` describes the effect of moving the file away.

    Raises
    ------
    Stop
        A newer release has written the file.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    _check_version(path, version, len(scripts), if_moved)
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT")


def migrate_tables(connection: sqlite3.Connection, path: Path, name: str, scripts: Sequence[str]) -> None:
    """Do the same for an agent's own tables, whose version is a row in `tables`.

    Raises
    ------
    Stop
        A newer release has written the tables.
    """
    found = connection.execute("SELECT version FROM tables WHERE name = ?", (name,)).fetchone()
    version = found[0] if found else 0
    _check_version(path, version, len(scripts), _UNSENT_STAYS)
    for number, script in enumerate(scripts[version:], start=version + 1):
        noted = f"INSERT OR REPLACE INTO tables VALUES ('{name}', {number})"  # noqa: S608 - a name of our own
        connection.executescript(f"BEGIN; {script}; {noted}; COMMIT")


def _check_version(path: Path, version: int, known: int, if_moved: str) -> None:
    if version > known:
        raise Stop(
            f"{path} has schema version {version}, this release knows {known}: "
            f"install the newer release again, or move the file away ({if_moved})"
        )


def each_topic(table: str, where: str) -> str:
    """Return SQL for the topics of some rows; it costs one look at the index for each topic, not for each row."""
    return (
        f"WITH RECURSIVE t(topic) AS (SELECT min(topic) FROM {table} WHERE {where} UNION ALL"  # noqa: S608 - fixed texts
        f" SELECT (SELECT min(topic) FROM {table} WHERE {where} AND topic > t.topic) FROM t WHERE t.topic IS NOT NULL)"
        " SELECT topic FROM t WHERE topic IS NOT NULL"
    )


def empty_log(connection: sqlite3.Connection) -> bool:
    """Write the log into the file and empty it. Return False if another program is reading the file."""
    ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return not busy


def mapped(error: sqlite3.Error, path: Path) -> Exception:
    """Return our error for SQLite's, or the error itself if it is our mistake (bad SQL, a broken constraint)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _TRY_AGAIN:
        return Retry(f"{path}: {error}; nothing was changed. Free some disk space if this goes on")
    if code in _UNUSABLE:
        return Stop(
            f"{path} cannot be used: {error}. Check the disk, then move the file away (with its -wal and -shm): "
            "the agent starts with an empty file, and unsent records stay in the old one"
        )
    return error
