"""Renditions: what is made from instances. The table is the queue, its unique key the single flight (design 8)."""

# ruff: noqa: S608 - the columns of app.index.located

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import asyncpg
import orjson

from app.extent import Span
from app.index.archive import Index
from app.index.connection import translated
from app.index.located import LOCATED, Located, located
from app.index.queue import MAKERS, MP4, NORMALISED, POSTER, QUEUE, STREAM, WAITING, queued

__all__ = [
    "MP4",
    "NORMALISED",
    "POSTER",
    "STREAM",
    "Job",
    "Rendition",
    "fail",
    "find",
    "finish",
    "lease",
    "listen",
    "progress",
    "queue",
    "use",
    "wait",
]

_BRIEF_S: Final = 0.02
_SELDOM_S: Final = 0.5  # between two looks of one who would be told, for a listener goes blind unseen
State = Literal["queued", "running", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class Rendition:
    """One rendition as it stands; what follows `error` is known when it is ready."""

    id: int
    kind: str
    params: str
    state: State
    progress: float
    attempts: int
    error: str | None
    key: str | None
    size: int | None
    layout: tuple[Span, ...]
    media_type: str | None
    sha256: bytes | None
    description: dict[str, Any] | None
    running_s: float | None
    """Since its maker began."""
    is_rested: bool
    """Its last use was not noted lately."""


@dataclass(frozen=True, slots=True)
class Job:
    """A leased rendition; `attempt` is the fence: who lost the lease changes nothing any more."""

    id: int
    kind: str
    params: str
    attempt: int
    located: Located


_FIND = """
select id, kind, params, state, progress, attempts, error, object_key as key, size, layout::text, media_type, sha256,
    description::text, extract(epoch from now() - started_at)::float8 as running_s,
    used_at < now() - interval '1 hour' as is_rested
from rendition where instance_id = $1 and kind = $2 and params = $3 and (state = 'ready' or maker_version >= $4)
order by state <> 'ready', maker_version desc limit 1"""

_USE = "update rendition set used_at = now() where id = $1"

_SPENT = "Whoever prepared the video did not survive it; the stored original can still be retrieved."

# One that was taken too often ended its makers, not itself: nobody takes it any more. A stream is described after its
# MP4, of which much is known then.
_LEASE = f"""
with spent as (
    update rendition set state = 'failed', error = $4, lease_until = null where id in (
        select id from rendition
        where kind = any($1::text[]) and state in ('queued', 'running') and attempts >= $3
          and (lease_until is null or lease_until < now())
        order by id for update skip locked)
), next as (
    select id from rendition d
    where kind = any($1::text[]) and state in ('queued', 'running') and attempts < $3
      and (lease_until is null or lease_until < now())
      and ($5::text[] is null or exists (
          select from instance i where i.id = d.instance_id and i.container = any($5::text[])))
      and (kind <> 'stream' or not exists (
          select from rendition m where m.instance_id = d.instance_id and m.kind = 'mp4'
            and m.state in ('queued', 'running')))
    order by id limit 1 for update skip locked
), leased as (
    update rendition d set state = 'running', lease_until = now() + $2::float8 * interval '1 second',
        attempts = attempts + 1, progress = 0, started_at = now()
    from next where d.id = next.id returning d.id, d.instance_id, d.kind, d.params, d.attempts
)
select {LOCATED}, leased.id, leased.kind, leased.params, leased.attempts as attempt
from leased join instance i on i.id = leased.instance_id join series r on r.id = i.series_id
join study s on s.id = i.study_id"""

_PROGRESS = """
update rendition set progress = $3, lease_until = now() + $4::float8 * interval '1 second'
where id = $1 and attempts = $2 and state = 'running' returning true"""

# The series before the rendition: the order in which deleting takes them. Metadata tells of an MP4 only.
_BUMP = """
update series set version = version + 1 where id = (
    select i.series_id from rendition d join instance i on i.id = d.instance_id
    where d.id = $1 and d.kind = 'mp4')"""

_FINISH = """
update rendition set state = 'ready', progress = 1, lease_until = null, error = null, object_key = $3, size = $4,
    layout = $5::jsonb, media_type = $6, sha256 = $7, description = $8::jsonb
where id = $1 and attempts = $2 and state = 'running' returning true"""

_ARRIVED = "delete from pending where key = $1"

_FAIL = """
update rendition set state = case when $4 then 'failed' else 'queued' end, error = $3,
    lease_until = case when $4 then null else now() + least(60, power(2, attempts)) * interval '1 second' end
where id = $1 and attempts = $2 and state = 'running' returning true"""


async def find(index: Index, instance_id: int, kind: str, params: str = "") -> Rendition | None:
    """The best there is: a ready one, else the newest maker's; what an older one could not make does not count."""
    row = await index.reader.fetchrow(_FIND, instance_id, kind, params, MAKERS.get(kind, 0))
    return None if row is None else _rendition(row)


async def wait(
    index: Index, instance_id: int, kind: str, timeout_s: float, params: str = ""
) -> Rendition | None:
    """As `find`, but one in the making is given so much time."""
    ends = asyncio.get_running_loop().time() + timeout_s
    rest_s = _BRIEF_S
    while True:
        changed = index.changes.next
        found = await find(index, instance_id, kind, params)
        left_s = ends - asyncio.get_running_loop().time()
        if found is None or found.state in {"ready", "failed"} or left_s <= 0:
            return found
        await asyncio.sleep(min(rest_s, left_s))
        # What changes all the time is not asked all the time.
        if changed.is_set() or index.changes.count is None:
            rest_s = min(rest_s * 1.5, _SELDOM_S)
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_SELDOM_S, left_s)):
                await changed.wait()
        rest_s = _BRIEF_S


async def use(index: Index, found: Rendition) -> None:
    """Note that it is used, once in a while: what is unused for longest goes first."""
    if found.is_rested:
        await index.reader.fetch(_USE, found.id)


async def queue(index: Index, instance_id: int, kind: str) -> None:
    """Ask for one that an older version of this program did not ask for."""
    await index.reader.fetch(QUEUE, *queued([instance_id], kind))


async def lease(
    index: Index,
    kinds: Sequence[str],
    lease_s: float,
    attempts: int = 5,
    containers: Sequence[str] | None = None,
) -> Job | None:
    """The oldest that waits or whose maker fell silent; nobody else gets it for so long.

    Of videos in these `containers` alone, where they are told. One that was leased `attempts` times and never came back fails for good.
    """
    with translated():
        async with index.jobs.use() as connection:
            row = await connection.fetchrow(_LEASE, list(kinds), float(lease_s), attempts, _SPENT, containers)
    if row is None:
        return None
    return Job(row["id"], row["kind"], row["params"], row["attempt"], located(row))


async def listen(index: Index, heard: Callable[..., Any]) -> None:
    """Have `heard` called when a rendition is asked for: the table is the queue, this only hurries.

    A lost connection forgets it; asked again on the same connection it costs nothing.
    """
    with translated():
        async with index.jobs.use() as connection:
            await connection.add_listener(WAITING, heard)


async def progress(index: Index, job: Job, done: float, lease_s: float) -> bool:
    """Renew the lease; False when it was lost, and the work is in vain."""
    with translated():
        async with index.jobs.use() as connection:
            return bool(await connection.fetchval(_PROGRESS, job.id, job.attempt, done, float(lease_s)))


async def finish(  # noqa: PLR0917 - what is told of one object
    index: Index,
    job: Job,
    key: str,
    size: int,
    layout: Sequence[Span],
    media_type: str,
    sha256: bytes,
    description: Mapping[str, Any] | None = None,
) -> bool:
    """It is ready, and a video playable, as its series' metadata tells; False when the lease was lost: remove the object."""
    spans = orjson.dumps([asdict(span) for span in layout]).decode()
    told = None if description is None else orjson.dumps(description).decode()
    with translated():
        async with index.jobs.use() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(_BUMP, job.id)
                done = (job.id, job.attempt, key, size, spans, media_type, sha256, told)
                is_ours = bool(await connection.fetchval(_FINISH, *done))
                await connection.execute(_ARRIVED, key)
            except BaseException:
                await transaction.rollback()
                raise
            await (transaction.commit() if is_ours else transaction.rollback())
    return is_ours


async def fail(index: Index, job: Job, error: str, *, final: bool) -> bool:
    """It did not work: never (`final`), or again after a while that grows."""
    with translated():
        async with index.jobs.use() as connection:
            return bool(await connection.fetchval(_FAIL, job.id, job.attempt, error, final))


def _rendition(row: asyncpg.Record) -> Rendition:
    spans = orjson.loads(row["layout"]) if row["layout"] else ()
    told = orjson.loads(row["description"]) if row["description"] else None
    values = dict(row) | {"layout": tuple(Span(**span) for span in spans), "description": told}
    return Rendition(**values)
