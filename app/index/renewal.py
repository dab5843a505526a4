"""Rows that an older scanner made, made again; they keep their ids, objects and renditions."""

# ruff: noqa: S608 - the columns of app.index.located

from __future__ import annotations

from app.dicom.scanner import SCANNER_VERSION
from app.extent import Stored
from app.index import described
from app.index.archive import Index
from app.index.connection import translated
from app.index.located import LOCATED, Located, located
from app.index.queue import NORMALISED, QUEUE, queued
from app.index.rows import Row

_PAGE = f"""
select {LOCATED} from instance i join series r on r.id = i.series_id join study s on s.id = i.study_id
where i.scanned_by < $1 and i.id > $2 order by i.id limit 50"""

_STUDY = "select id from study where study_instance_uid = $1 for no key update"

_RENEW = """
update instance set instance_number = $2, number_of_frames = $3, dataset_offset = $4, scanned_by = $5,
    pixel_tag = $6, pixel_vr = $7, pixel_offset = $8, pixel_length = $9, frame_bits = $10, stream_length = $11,
    container = $12, attributes = $13, bulk = $14::jsonb, metadata = $15, fragments = $16, frame_starts = $17
where object_key = $1 and sop_instance_uid = $18 returning id, series_id"""

# What another scanner says lies where another normaliser put it.
_FORGET = """
with gone as (delete from rendition where instance_id = $1 and kind = $2 returning object_key)
insert into removed (key) select object_key from gone where object_key is not null on conflict do nothing"""

_BUMP = "update series set version = version + 1, changed_at = now() where id = $1"


async def page(index: Index, after: int) -> list[Located]:
    """The next instances that an older scanner saw."""
    return [located(row) for row in await index.reader.fetch(_PAGE, SCANNER_VERSION, after)]


def stored(one: Located) -> Stored:
    """What its row says of its object."""
    return Stored(one.key, one.size, one.prefix_sha256, one.dataset_sha256)


async def renew(index: Index, row: Row) -> bool:
    """Write what this scanner saw; False when the instance is gone."""
    values = (row.key, *row.instance[3:5], *row.instance[9:23], row.sop_instance_uid)
    with translated():
        async with index.upkeep.use() as connection, connection.transaction():
            study_id = await connection.fetchval(_STUDY, row.study_instance_uid)
            renewed = await connection.fetchrow(_RENEW, *values)
            if renewed is None:
                return False
            await connection.execute(_BUMP, renewed["series_id"])
            await connection.execute(_FORGET, renewed["id"], NORMALISED)
            await connection.execute(QUEUE, *queued([renewed["id"]], *row.wants))
            await described.describe_studies(connection, described.columns([(0, *row.study)]))
            series = (0, row.study_instance_uid, *row.series)
            await described.describe_series(connection, described.columns([series]))
            await described.sum_up(connection, [study_id])
    return True
