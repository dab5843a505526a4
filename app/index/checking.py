"""Instances and renditions page by page, in the order of their ids, for those who check each of them."""

# ruff: noqa: S608 - the columns of app.index.located

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.index.archive import Index
from app.index.located import LOCATED, Located, located

_INSTANCES = f"""
select {LOCATED} from instance i join series r on r.id = i.series_id join study s on s.id = i.study_id
where i.id > $1 order by i.id limit 200"""

_RENDITIONS = """
select id, object_key as key, size from rendition
where state = 'ready' and object_key is not null and id > $1 order by id limit 200"""

_STUDIES = """
select s.id, s.study_instance_uid from study s where s.id > $1 and s.id <= $2 and (
    s.number_of_instances <> (select count(*) from instance i where i.study_id = s.id)
    or s.number_of_series <> (select count(*) from series r where r.study_id = s.id)
    or s.described_by <> (select min(sop_instance_uid) from instance i where i.study_id = s.id)
    or exists (select from series r where r.study_id = s.id and (
        r.number_of_instances <> (select count(*) from instance i where i.series_id = r.id)
        or r.described_by <> (select min(sop_instance_uid) from instance i where i.series_id = r.id))))"""

_LAST_STUDY = "select coalesce(max(id), 0) as id from study"
_STANDS = "select from instance where id = $1 and object_key = $2"
_COUNT = "select count(*) as instances, coalesce(sum(size), 0)::bigint as size from instance where id > $1"
_STORED = "select sop_instance_uid from instance where sop_instance_uid = any($1::text[])"
STUDIES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Made:
    """A rendition and its object."""

    id: int
    key: str
    size: int


async def instances(index: Index, after: int) -> list[Located]:
    """The next instances."""
    return [located(row) for row in await index.reader.fetch(_INSTANCES, after)]


async def renditions(index: Index, after: int) -> list[Made]:
    """The next renditions that are ready."""
    return [Made(*row) for row in await index.reader.fetch(_RENDITIONS, after)]


async def miscounted(index: Index, after: int) -> list[str] | None:
    """Of the next studies those whose counters or description do not fit their instances; None at the end."""
    last = await index.reader.fetchrow(_LAST_STUDY)
    assert last is not None
    if after >= last["id"]:
        return None
    return [row[1] for row in await index.reader.fetch(_STUDIES, after, after + STUDIES_AT_ONCE)]


async def stands(index: Index, one: Located) -> bool:
    """It is still stored, under the same object."""
    return await index.reader.fetchrow(_STANDS, one.instance_id, one.key) is not None


async def stored(index: Index, sop_instance_uids: Sequence[str]) -> set[str]:
    """Those of them that are stored now."""
    return {row[0] for row in await index.reader.fetch(_STORED, list(sop_instance_uids))}


async def left(index: Index, after: int) -> tuple[int, int]:
    """How many instances and bytes are left to check."""
    row = await index.reader.fetchrow(_COUNT, after)
    assert row is not None
    return row["instances"], row["size"]
