"""Instances of series that are there already, as all but the first of a series are: one statement, which is its own transaction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import asyncpg

from app.index.connection import Connection
from app.index.described import columns
from app.index.journal import Journal, Record
from app.index.rows import Row, smallest

_MOST: Final = 10_000  # series that are remembered: about two megabytes

# After `s` and `r`, the studies and series; $1 to $26 are the columns of the instances.
INSTANCES: Final = """
i as (
    insert into instance (
        study_id, series_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, instance_number,
        number_of_frames, object_key, size, prefix_sha256, dataset_sha256, dataset_offset, scanned_by, pixel_tag,
        pixel_vr, pixel_offset, pixel_length, frame_bits, stream_length, container, attributes, bulk, metadata,
        fragments, frame_starts, stored_at)
    select s.id, r.id, n.sop_instance_uid, sop_class_uid, transfer_syntax_uid, instance_number, number_of_frames,
        object_key, size, prefix_sha256, dataset_sha256, dataset_offset, scanned_by, pixel_tag, pixel_vr,
        pixel_offset, pixel_length, frame_bits, stream_length, container, n.attributes, bulk, metadata, fragments,
        frame_starts, coalesce(n.stored_at, now())
    from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::integer[],
        $8::text[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[], $13::smallint[], $14::text[],
        $15::text[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::text[], $21::text[],
        $22::jsonb[], $23::bytea[], $24::bytea[], $25::bytea[], $26::timestamptz[]
    ) as n (
        study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid,
        instance_number, number_of_frames, object_key, size, prefix_sha256, dataset_sha256, dataset_offset,
        scanned_by, pixel_tag, pixel_vr, pixel_offset, pixel_length, frame_bits, stream_length, container,
        attributes, bulk, metadata, fragments, frame_starts, stored_at)
    join s on s.study_instance_uid = n.study_instance_uid
    join r on r.study_id = s.id and r.series_instance_uid = n.series_instance_uid
    on conflict (sop_instance_uid) do nothing
    returning id, sop_instance_uid
)"""

# Studies are locked in the order of their UIDs, as everybody does. Unless each study and series is there and described
# by a smaller UID, each instance is new and each key is ours, the function at the end refuses and nothing has happened.
_GROW = f"""
with locked as (
    select s.id, n.instances, n.first from study s
    join unnest($27::text[], $28::bigint[], $29::text[]) as n (uid, instances, first) on n.uid = s.study_instance_uid
    order by s.study_instance_uid for no key update of s
), s as (
    update study s set number_of_instances = s.number_of_instances + n.instances
    from locked n where s.id = n.id and s.described_by < n.first
    returning s.id, s.study_instance_uid
), r as (
    update series r set
        number_of_instances = r.number_of_instances + n.instances, version = r.version + 1, changed_at = now()
    from s join unnest($30::text[], $31::text[], $32::bigint[], $33::text[]) as n (study, uid, instances, first)
        on n.study = s.study_instance_uid
    where r.study_id = s.id and r.series_instance_uid = n.uid and r.described_by < n.first
    returning r.id, r.study_id, r.series_instance_uid
), {INSTANCES}, claimed as (
    delete from pending where key = any($8::text[]) returning key
), told as (
    update journal set is_kept = true where key = any($36::text[])
), noted as (
    insert into journal (key, sop_instance_uids, content) select $34::text, $3::text[], $35::text returning key, at, content
)
select key, at, content from noted
union all
select key, at, content from rest_on(
    (select count(*) from s) = cardinality($27::text[]) and (select count(*) from r) = cardinality($31::text[])
    and (select count(*) from i) = cardinality($3::text[]) and (select count(*) from claimed) = cardinality($8::text[]),
    $3::text[], $36::text[] || $34::text)"""  # noqa: S608 - a statement's part, ours


class Growing:
    """Which series this process stored into, so that it seldom tries in vain; the statement looks for itself."""

    def __init__(self) -> None:
        self._described: OrderedDict[tuple[str, str], str] = OrderedDict()  # by this UID or a smaller one

    def expects(self, rows: Iterable[Row]) -> bool:
        """Whether all these do is to make series longer: known ones, which others describe; nothing is made of them."""
        return all(
            not row.wants and self._described.get(row.address, row.sop_instance_uid) < row.sop_instance_uid
            for row in rows
        )

    def learn(self, rows: Iterable[Row]) -> None:
        """These are stored, so their studies and series are there."""
        for row, _ in smallest(rows, lambda row: row.address).values():
            known = self._described.pop(row.address, row.sop_instance_uid)
            self._described[row.address] = min(known, row.sop_instance_uid)
            if len(self._described) > _MOST:
                self._described.popitem(last=False)

    async def store(
        self, connection: Connection, rows: Sequence[Row], journal: Journal
    ) -> list[Record] | None:
        """Store them; the records that are to be kept, or None when it is not as expected and nothing was done."""
        try:
            async with journal.noting([row.stored for row in rows]) as noted:
                told = await connection.fetch(_GROW, *instance_columns(rows), *_grown(rows), *noted)
        except asyncpg.NoDataFoundError:
            for row in rows:
                self._described.pop(row.address, None)
            return None
        return [Record(*one) for one in told]


def instance_columns(rows: Iterable[Row]) -> list[list[Any]]:
    """What INSTANCES takes."""
    return columns([(*row.address, *row.instance) for row in rows])


def _grown(rows: Sequence[Row]) -> list[list[Any]]:
    """Studies and series: how many instances more, and the smallest UID of those."""
    studies = smallest(rows, lambda row: row.study_instance_uid)
    series = smallest(rows, lambda row: row.address)
    return [
        *columns([(uid, count, row.sop_instance_uid) for uid, (row, count) in studies.items()]),
        *columns([(*address, count, row.sop_instance_uid) for address, (row, count) in series.items()]),
    ]
