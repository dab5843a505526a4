"""Deleting: rows at once, the storage knows before it is answered, objects go after a grace (the field's extension)."""

from __future__ import annotations

import asyncpg

from app.errors import NotFound, Unavailable
from app.index import described, gone
from app.index.archive import Index
from app.index.connection import Connection, translated
from app.index.journal import Record

_ATTEMPTS = 5

_STUDY = "select id from study where study_instance_uid = $1 for update"
_NOBODY = "update study set described_by = '~' where id = $1"  # sorts after every UID
_SERIES = "select id from series where study_id = $1 order by id for update"
_BELOW = """
select id, series_id, study_id, sop_instance_uid, object_key from instance
where study_id = $1 and ($2::text is null or series_id = (
    select id from series where study_id = $1 and series_instance_uid = $2))
and ($3::text is null or sop_instance_uid = $3)"""


async def remove(index: Index, study: str, series: str | None = None, instance: str | None = None) -> int:
    """Remove what lies below an address; how many instances that were. NotFound when there are none.

    When it returns the storage knows too, so that no index made from it has them again.
    """
    for _ in range(_ATTEMPTS):
        try:
            with translated():
                async with index.upkeep.use() as connection:
                    count = await _removed(index, connection, study, series, instance)
                    index.changes.happened()
                    return count
        except _Again:
            continue
    raise Unavailable("The study changes too fast.")


async def recount(connection: Connection, study: str) -> None:
    """Bring what a study and its series say of their instances back to what is there."""
    async with connection.transaction():
        study_id = await connection.fetchval(_STUDY, study)
        await connection.execute(_NOBODY, study_id)
        series = [row["id"] for row in await connection.fetch(_SERIES, study_id)]
        await described.after_removal(connection, [study_id], series)


class _Again(Exception):
    """The database chose us to yield to another."""


async def _removed(
    index: Index, connection: Connection, study: str, series: str | None, instance: str | None
) -> int:
    try:
        async with connection.transaction():
            study_id = await connection.fetchval(_STUDY, study, timeout=gone.TIMEOUT_S)
            rows = await connection.fetch(_BELOW, study_id, series, instance, timeout=gone.TIMEOUT_S)
            records = await _taken(index, connection, rows) if rows else []
    except asyncpg.TransactionRollbackError as error:
        raise _Again from error
    if not rows:
        # Somebody may have removed it and died before the storage knew: "not there" is a promise too.
        await index.journal.catch_up(connection, 0)
        raise NotFound("Nothing is stored under this address.")
    await index.journal.keep(records)
    await index.journal.tell(connection)
    return len(rows)


async def _taken(index: Index, connection: Connection, rows: list[asyncpg.Record]) -> list[Record]:
    keys = await gone.take(connection, rows)
    return await index.journal.note(connection, [row["sop_instance_uid"] for row in rows], (), keys)
