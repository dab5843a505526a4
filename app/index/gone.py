"""Instances that go, by delete or replace: their rows and all that hangs on them, inside a transaction.

The order of locks is everybody's: studies by UID, series, renditions, instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg

from app.index import described
from app.index.connection import Connection, Raced

TIMEOUT_S: Final = 600  # a study may hold a million instances

_STUDIES = """
select id from study
where id = any(select study_id from instance where sop_instance_uid = any($1::text[]))
order by study_instance_uid for update"""

_OF_UIDS = """
select id, series_id, study_id, sop_instance_uid, object_key from instance where sop_instance_uid = any($1::text[])"""

_LOCK_SERIES = "select from series where id = any($1::bigint[]) order by id for update"
_LOCK_RENDITIONS = """
select object_key from rendition where instance_id = any($1::bigint[]) order by id for update"""
_DELETE = "delete from instance where id = any($1::bigint[])"
_REMOVE = "insert into removed (key) select unnest($1::text[]) on conflict do nothing"


async def take_out(connection: Connection, uids: Sequence[str]) -> list[str]:
    """Inside a transaction: remove these instances, wherever they are; the keys of their objects."""
    locked = {row["id"] for row in await connection.fetch(_STUDIES, uids)}
    rows = await connection.fetch(_OF_UIDS, uids)
    if not {row["study_id"] for row in rows} <= locked:
        raise Raced  # replaced into another study while we waited
    return await take(connection, rows) if rows else []


async def take(connection: Connection, rows: Sequence[asyncpg.Record]) -> list[str]:
    """Remove these instances (`id`, `series_id`, `study_id`, `object_key`) of locked studies; their objects' keys."""
    ids, series_ids, study_ids = (_distinct(rows, name) for name in ("id", "series_id", "study_id"))
    await connection.execute(_LOCK_SERIES, series_ids, timeout=TIMEOUT_S)
    made = await connection.fetch(_LOCK_RENDITIONS, ids, timeout=TIMEOUT_S)
    await connection.execute(_DELETE, ids, timeout=TIMEOUT_S)
    keys = [row["object_key"] for row in rows]
    await connection.execute(_REMOVE, [*keys, *(row["object_key"] for row in made if row["object_key"])])
    await described.after_removal(connection, study_ids, series_ids)
    return keys


def _distinct(rows: Iterable[asyncpg.Record], name: str) -> list[int]:
    return sorted({row[name] for row in rows})
