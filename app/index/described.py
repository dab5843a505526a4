"""What study and series rows say: a function of their instances, the same in whatever order those come and go.

The instance with the smallest SOP Instance UID describes its study and its series; counters and modalities
follow from the rows below. Who calls holds the rows of the studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
from isal import isal_zlib

from app.dicom.scanner import Head
from app.index.connection import Connection
from app.index.rows import describing

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
where s.study_instance_uid = n.study_instance_uid and (n.described_by collate "C" <= s.described_by
    or not exists (select from instance i where i.sop_instance_uid = s.described_by and i.study_id = s.id))"""

_DESCRIBE_SERIES = """
update series as r set
    described_by = n.described_by, modality = n.modality, series_number = n.series_number,
    series_date = n.series_date, series_description_key = n.series_description_key,
    body_part_examined = n.body_part_examined, performed_start_date = n.performed_start_date,
    performed_start_time = n.performed_start_time,
    scheduled_procedure_step_ids = string_to_array(n.scheduled, '\\'),
    requested_procedure_ids = string_to_array(n.requested, '\\'), attributes = n.attributes
from unnest(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::date[], $8::text[],
    $9::text[], $10::date[], $11::text[], $12::text[], $13::text[], $14::text[]
) as n (
    number_of_instances, study_instance_uid, series_instance_uid, described_by, modality, series_number,
    series_date, series_description_key, body_part_examined, performed_start_date, performed_start_time,
    scheduled, requested, attributes)
join study s using (study_instance_uid)
where r.study_id = s.id and r.series_instance_uid = n.series_instance_uid
    and (n.described_by collate "C" <= r.described_by
    or not exists (select from instance i where i.sop_instance_uid = r.described_by and i.series_id = r.id))"""

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

# Where nothing is left, the row goes; who reads its metadata may end.
_COUNT_SERIES = """
with counted as (
    select r.id, count(i.id) as instances, min(i.sop_instance_uid) as first
    from series r left join instance i on i.series_id = r.id where r.id = any($1::bigint[]) group by r.id
), gone as (
    delete from series r using counted c where c.id = r.id and c.instances = 0 returning r.id
), read as (
    update series_metadata m set used_at = now() from gone where m.series_id = gone.id
)
update series r set number_of_instances = c.instances, version = r.version + 1, changed_at = now()
from counted c where c.id = r.id and c.instances > 0
returning case when r.described_by <> c.first then c.first end as described_by"""

_COUNT_STUDIES = """
with counted as (
    select s.id, (select count(*) from instance i where i.study_id = s.id) as instances,
        case when not exists (select from instance i where i.sop_instance_uid = s.described_by and i.study_id = s.id)
            then (select min(i.sop_instance_uid) from instance i where i.study_id = s.id) end as first
    from study s where s.id = any($1::bigint[])
), gone as (
    delete from study s using counted c where c.id = s.id and c.instances = 0
)
update study s set number_of_instances = c.instances
from counted c where c.id = s.id and c.instances > 0
returning c.first as described_by"""

_DESCRIBING = """
select i.sop_class_uid, i.sop_instance_uid, s.study_instance_uid, r.series_instance_uid, i.transfer_syntax_uid,
    i.metadata
from instance i join series r on r.id = i.series_id join study s on s.id = i.study_id
where i.sop_instance_uid = any($1::text[])"""


def columns(tuples: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows as the arrays that unnest takes."""
    return [list(column) for column in zip(*tuples, strict=True)]


async def describe_studies(connection: Connection, arrays: Sequence[list[Any]]) -> None:
    """Let these instances describe their studies where they are smaller than who does, or told again."""
    await connection.execute(_DESCRIBE_STUDIES, *arrays)


async def describe_series(connection: Connection, arrays: Sequence[list[Any]]) -> None:
    """The same of series."""
    await connection.execute(_DESCRIBE_SERIES, *arrays)


async def sum_up(connection: Connection, study_ids: Sequence[int]) -> None:
    """What studies say of their series."""
    await connection.execute(_SUMS, study_ids)


async def after_removal(connection: Connection, study_ids: Sequence[int], series_ids: Sequence[int]) -> None:
    """Count anew, remove what is empty, and let others describe what is left."""
    series = await connection.fetch(_COUNT_SERIES, series_ids)
    studies = await connection.fetch(_COUNT_STUDIES, study_ids)
    firsts = {row["described_by"] for row in [*series, *studies]} - {None}
    if firsts:
        rows = [_description(row) for row in await connection.fetch(_DESCRIBING, sorted(firsts))]
        await describe_studies(connection, columns([(0, *study) for study, _ in rows]))
        await describe_series(connection, columns([(0, study[0], *series) for study, series in rows]))
    await sum_up(connection, study_ids)


def _description(row: asyncpg.Record) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    head = Head(*(row[name] for name in Head.__slots__))
    return describing(head, isal_zlib.decompress(row["metadata"]))
