"""What earlier imports brought in, so that a second run does not read it again: `import/done.sqlite` below DATA_DIR.

A row is a digest of path, size, time of change and destination, and the SOP Instance UID that was stored. It is
a memory aid and no truth: what it tells is asked of the archive, and whoever removes it loses time only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Self

from app.errors import Unavailable

_TABLE: Final = (
    "create table if not exists done (mark blob primary key, sop_instance_uid text not null) without rowid"
)
_PATIENCE_S: Final = 60
_FULL: Final = 200


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable(f"What is imported cannot be noted ({type(error).__name__}).") from error


class Done:
    """Its methods wait for the disk: call them from threads."""

    def __init__(self, folder: Path, destination: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "done.sqlite"
        self._destination = destination.encode()
        self._lock = Lock()
        self._held: list[tuple[bytes, str]] = []
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with _told():
            try:
                self._database = self._opened()
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode not in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
                    raise
                self._path.unlink()  # no database any more: it is begun anew
                self._database = self._opened()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        self._database.close()

    def known(self, marks: Sequence[bytes]) -> dict[bytes, str]:
        """Those that were brought in, and as what."""
        keys = {self._key(mark): mark for mark in marks}
        wanted = ",".join("?" * len(keys))
        with self._lock, _told():
            rows = self._database.execute(
                f"select mark, sop_instance_uid from done where mark in ({wanted})",  # noqa: S608 - question marks
                list(keys),
            ).fetchall()
        return {keys[key]: uid for key, uid in rows}

    def add(self, mark: bytes, sop_instance_uid: str) -> bool:
        """Remember one; true when enough came together to be written."""
        with self._lock:
            self._held.append((self._key(mark), sop_instance_uid))
            return len(self._held) >= _FULL

    def flush(self) -> None:
        """Write what came since: it is acknowledged by then, and a loss of it would cost time only."""
        with self._lock, _told(), self._database:
            held, self._held = self._held, []
            self._database.executemany("insert or replace into done values (?, ?)", held)

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_PATIENCE_S, check_same_thread=False)
        try:
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = normal")
            database.execute(_TABLE)
            database.execute("select * from done limit 1").fetchall()
        except BaseException:
            database.close()
            raise
        return database

    def _key(self, mark: bytes) -> bytes:
        return blake2b(mark + self._destination, digest_size=16).digest()
