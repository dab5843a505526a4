"""The transaction that stores a batch of instances: rows described alike in whatever order they arrive."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import asyncpg

from app.index.connection import Connection
from app.index.queue import MP4, MP4_MAKER, WAITING
from app.index.rows import Row

_K = TypeVar("_K", bound=Hashable)


class Outcome(StrEnum):
    """What became of an instance."""

    STORED = "stored"
    SAME = "same"
    CONFLICT = "conflict"
    LOST = "lost"
    """Its pending row was swept, so its object may be gone: the committer refuses it, callers never see this."""


class Raced(Exception):
    """Another process stored one of these instances in between: look again."""


_KNOWN = """
select sop_instance_uid, dataset_sha256, object_key from instance where sop_instance_uid = any($1::text[])"""

_CLAIM = "delete from pending where key = any($1::text[]) returning key"

# The rows of studies are locked in the order of their UIDs, new ones too; whatever hangs below a study is
# written only by who holds its row. Two processes that store into the same studies wait, and never deadlock.
_STUDIES = """
insert into study as s (
    number_of_instances, study_instance_uid, described_by, study_date, study_time, accession_number,
    referring_physician_name_key, patient_name_key, patient_id, issuer_of_patient_id, patient_birth_date,
    patient_sex, study_id, study_description_key, attributes)
select * from unnest(
    $1::bigint[], $2::text[], $3::text[], $4::date[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::date[], $12::text[], $13::text[], $14::text[], $15::text[]
) as n (number_of_instances, study_instance_uid) order by n.study_instance_uid collate "C"
on conflict (study_instance_uid) do update
set number_of_instances = s.number_of_instances + excluded.number_of_instances
returning s.id, s.study_instance_uid, s.described_by"""

_DESCRIBE_STUDIES = """
update study as s set
    described_by = n.described_by, study_date = n.study_date, study_time = n.study_time,
    accession_number = n.accession_number, referring_physician_name_key = n.referring_physician_name_key,
    patient_name_key = n.patient_name_key, patient_id = n.patient_id,
    issuer_of_patient_id = n.issuer_of_patient_id, patient_birth_date = n.patient_birth_date,
    patient_sex = n.patient_sex, study_id = n.study_id, study_description_key = n.study_description_key,
    attributes = n.attributes
from unnest(
    $1::bigint[], $2::text[], $3::text[], $4::date[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::date[], $12::text[], $13::text[], $14::text[], $15::text[]
) as n (
    number_of_instances, study_instance_uid, described_by, study_date, study_time, accession_number,
    referring_physician_name_key, patient_name_key, patient_id, issuer_of_patient_id, patient_birth_date,
    patient_sex, study_id, study_description_key, attributes)
where s.study_instance_uid = n.study_instance_uid and n.described_by collate "C" < s.described_by"""

_SERIES = """
insert into series as r (
    number_of_instances, study_id, series_instance_uid, described_by, modality, series_number, series_date,
    series_description_key, body_part_examined, performed_start_date, performed_start_time,
    scheduled_procedure_step_ids, requested_procedure_ids, attributes)
select number_of_instances, study_id, series_instance_uid, described_by, modality, series_number, series_date,
    series_description_key, body_part_examined, performed_start_date, performed_start_time,
    string_to_array(scheduled, '\\'), string_to_array(requested, '\\'), attributes
from unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::date[], $8::text[],
    $9::text[], $10::date[], $11::text[], $12::text[], $13::text[], $14::text[]
) as n (
    number_of_instances, study_id, series_instance_uid, described_by, modality, series_number, series_date,
    series_description_key, body_part_examined, performed_start_date, performed_start_time, scheduled,
    requested, attributes)
on conflict (study_id, series_instance_uid) do update
set number_of_instances = r.number_of_instances + excluded.number_of_instances,
    version = r.version + 1, changed_at = now()
returning r.id, r.study_id, r.series_instance_uid, r.described_by, r.xmax = 0 as is_new"""

_DESCRIBE_SERIES = """
update series as r set
    described_by = n.described_by, modality = n.modality, series_number = n.series_number,
    series_date = n.series_date, series_description_key = n.series_description_key,
    body_part_examined = n.body_part_examined, performed_start_date = n.performed_start_date,
    performed_start_time = n.performed_start_time,
    scheduled_procedure_step_ids = string_to_array(n.scheduled, '\\'),
    requested_procedure_ids = string_to_array(n.requested, '\\'), attributes = n.attributes
from unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::date[], $8::text[],
    $9::text[], $10::date[], $11::text[], $12::text[], $13::text[], $14::text[]
) as n (
    number_of_instances, study_id, series_instance_uid, described_by, modality, series_number, series_date,
    series_description_key, body_part_examined, performed_start_date, performed_start_time, scheduled,
    requested, attributes)
where r.study_id = n.study_id and r.series_instance_uid = n.series_instance_uid
    and n.described_by collate "C" < r.described_by"""

_INSTANCES = """
insert into instance (
    study_id, series_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, instance_number,
    number_of_frames, object_key, size, prefix_sha256, dataset_sha256, dataset_offset, scanned_by, pixel_tag,
    pixel_vr, pixel_offset, pixel_length, frame_bits, stream_length, container, attributes, bulk, metadata,
    fragments, frame_starts)
select * from unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::integer[], $8::text[],
    $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[], $13::smallint[], $14::text[], $15::text[],
    $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::text[], $21::text[], $22::jsonb[],
    $23::bytea[], $24::bytea[], $25::bytea[])
on conflict (sop_instance_uid) do nothing
returning id, sop_instance_uid"""

_RENDITIONS = """
with made as (
    insert into rendition (instance_id, kind, maker_version)
    select unnest($1::bigint[]), $2, $3 on conflict do nothing returning id)
select pg_notify($4, id::text) from made"""

# What a study says of its series follows from its series alone.
_SUMS = """
with wanted as (
    select distinct s.id, s.study_date, r.modality from study s join series r on r.study_id = s.id
    where s.id = any($1::bigint[]) and r.modality <> ''
), gone as (
    delete from study_modality m where m.study_id = any($1::bigint[])
    and not exists (select from wanted w where w.id = m.study_id and w.modality = m.modality)
), linked as (
    insert into study_modality as m (modality, study_date, study_id) select modality, study_date, id from wanted
    on conflict (study_id, modality) do update set study_date = excluded.study_date
    where m.study_date is distinct from excluded.study_date
)
update study s set
    number_of_series = (select count(*) from series r where r.study_id = s.id),
    modalities = array(select w.modality from wanted w where w.id = s.id order by w.modality)
where s.id = any($1::bigint[])"""


async def store(connection: Connection, rows: Sequence[Row]) -> dict[str, Outcome]:
    """Store rows of different SOP Instance UIDs in one transaction; what became of each, by that UID."""
    async with connection.transaction():
        found = await connection.fetch(_KNOWN, [row.sop_instance_uid for row in rows])
        known = {one["sop_instance_uid"]: one for one in found}
        outcomes = {
            uid: _met_again(row, known[uid]) for row in rows if (uid := row.sop_instance_uid) in known
        }
        fresh = [row for row in rows if row.sop_instance_uid not in known]
        if fresh:
            claimed = {one["key"] for one in await connection.fetch(_CLAIM, [row.key for row in fresh])}
            outcomes |= {row.sop_instance_uid: Outcome.LOST for row in fresh if row.key not in claimed}
            fresh = [row for row in fresh if row.key in claimed]
        if fresh:
            await _insert(connection, fresh)
            outcomes |= {row.sop_instance_uid: Outcome.STORED for row in fresh}
    return outcomes


def _met_again(row: Row, stored: asyncpg.Record) -> Outcome:
    if stored["object_key"] == row.key:  # committed before, and the answer was lost
        return Outcome.STORED
    return Outcome.SAME if stored["dataset_sha256"] == row.dataset_sha256 else Outcome.CONFLICT


async def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    study_ids, changed = await _insert_studies(connection, rows)
    series_ids, touched = await _insert_series(connection, rows, study_ids)
    instances = [
        (
            study_ids[row.study_instance_uid],
            series_ids[row.study_instance_uid, row.series_instance_uid],
            *row.instance,
        )
        for row in rows
    ]
    made = await connection.fetch(_INSTANCES, *_columns(instances))
    if len(made) < len(rows):
        raise Raced
    videos = {row.sop_instance_uid for row in rows if row.is_video}
    if ids := [one["id"] for one in made if one["sop_instance_uid"] in videos]:
        await connection.execute(_RENDITIONS, ids, MP4, MP4_MAKER, WAITING)
    if changed | touched:
        await connection.execute(_SUMS, sorted(changed | touched))


async def _insert_studies(connection: Connection, rows: Sequence[Row]) -> tuple[dict[str, int], set[int]]:
    """Count and lock; the ids by UID, and the ids of those whose description changed."""
    first = _describing(rows, lambda row: row.study_instance_uid)
    columns = _columns([(count, *row.study) for row, count in first.values()])
    found = await connection.fetch(_STUDIES, *columns)
    changed = {one["id"] for one in found if first[one[1]][0].sop_instance_uid < one["described_by"]}
    if changed:
        await connection.execute(_DESCRIBE_STUDIES, *columns)
    return {one["study_instance_uid"]: one["id"] for one in found}, changed


async def _insert_series(
    connection: Connection, rows: Sequence[Row], study_ids: dict[str, int]
) -> tuple[dict[tuple[str, str], int], set[int]]:
    """The ids by study and series UID, and the ids of studies that have a new or another series."""
    first = _describing(rows, lambda row: (study_ids[row.study_instance_uid], row.series_instance_uid))
    columns = _columns([(count, study, *row.series) for (study, _), (row, count) in first.items()])
    found = await connection.fetch(_SERIES, *columns)
    another = {
        one["study_id"] for one in found if first[one[1], one[2]][0].sop_instance_uid < one["described_by"]
    }
    if another:
        await connection.execute(_DESCRIBE_SERIES, *columns)
    uids = {study_id: uid for uid, study_id in study_ids.items()}
    ids = {(uids[one["study_id"]], one["series_instance_uid"]): one["id"] for one in found}
    return ids, another | {one["study_id"] for one in found if one["is_new"]}


def _describing(rows: Iterable[Row], group: Callable[[Row], _K]) -> dict[_K, tuple[Row, int]]:
    """Of each group the row with the smallest SOP Instance UID, and how many there are."""
    found: dict[_K, tuple[Row, int]] = {}
    for row in rows:
        best, count = found.get(group(row), (row, 0))
        found[group(row)] = (min(best, row, key=lambda one: one.sop_instance_uid), count + 1)
    return found


def _columns(tuples: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*tuples, strict=True)]
