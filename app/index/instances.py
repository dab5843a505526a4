"""The transaction that stores a batch of instances: rows described alike in whatever order they arrive."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from enum import StrEnum

import asyncpg

from app.errors import NoRoom
from app.index import described, gone
from app.index.connection import Connection, Raced
from app.index.growing import INSTANCES, Growing, instance_columns
from app.index.journal import Journal, Record
from app.index.queue import QUEUE, queued
from app.index.rows import Row, smallest


class Outcome(StrEnum):
    """What became of an instance."""

    STORED = "stored"
    SAME = "same"
    CONFLICT = "conflict"
    LOST = "lost"
    """Its pending row was swept, so its object may be gone: the committer refuses it, callers never see this."""


class Lost(NoRoom):
    """Nothing points at the object of this upload, and nothing ever will."""

    def __init__(self) -> None:
        super().__init__("The upload outlived its reservation.")


# What is stored under these UIDs already; the keys of the others leave the table of pending ones.
_MEET = """
with known as (
    select sop_instance_uid, dataset_sha256, object_key from instance where sop_instance_uid = any($1::text[])
), claimed as (
    delete from pending p using unnest($1::text[], $2::text[]) as n (sop_instance_uid, key)
    where p.key = n.key and not exists (select from known k where k.sop_instance_uid = n.sop_instance_uid)
    returning p.key
)
select sop_instance_uid, dataset_sha256, object_key from known
union all select null, null, key from claimed"""

_CLAIM = "delete from pending where key = any($1::text[]) returning key"
_KNOWN = "select sop_instance_uid from instance where sop_instance_uid = any($1::text[])"

# The rows of studies are locked in the order of their UIDs, new ones too; whatever hangs below a study is
# written only by who holds its row. Two processes that store into the same studies wait, and never deadlock.
_STORE = f"""
with s as (
    insert into study as s (
        number_of_instances, study_instance_uid, described_by, study_date, study_time, accession_number,
        referring_physician_name_key, patient_name_key, patient_id, issuer_of_patient_id, patient_birth_date,
        patient_sex, study_id, study_description_key, attributes)
    select * from unnest(
        $27::bigint[], $28::text[], $29::text[], $30::date[], $31::text[], $32::text[], $33::text[], $34::text[],
        $35::text[], $36::text[], $37::date[], $38::text[], $39::text[], $40::text[], $41::text[]
    ) as n (number_of_instances, study_instance_uid) order by n.study_instance_uid collate "C"
    on conflict (study_instance_uid) do update
    set number_of_instances = s.number_of_instances + excluded.number_of_instances
    returning s.id, s.study_instance_uid, s.described_by
), r as (
    insert into series as r (
        number_of_instances, study_id, series_instance_uid, described_by, modality, series_number, series_date,
        series_description_key, body_part_examined, performed_start_date, performed_start_time,
        scheduled_procedure_step_ids, requested_procedure_ids, attributes)
    select n.number_of_instances, s.id, series_instance_uid, n.described_by, modality, series_number, series_date,
        series_description_key, body_part_examined, performed_start_date, performed_start_time,
        string_to_array(scheduled, '\\'), string_to_array(requested, '\\'), n.attributes
    from unnest(
        $42::bigint[], $43::text[], $44::text[], $45::text[], $46::text[], $47::integer[], $48::date[],
        $49::text[], $50::text[], $51::date[], $52::text[], $53::text[], $54::text[], $55::text[]
    ) as n (
        number_of_instances, study_instance_uid, series_instance_uid, described_by, modality, series_number,
        series_date, series_description_key, body_part_examined, performed_start_date, performed_start_time,
        scheduled, requested, attributes)
    join s using (study_instance_uid)
    on conflict (study_id, series_instance_uid) do update
    set number_of_instances = r.number_of_instances + excluded.number_of_instances,
        version = r.version + 1, changed_at = now()
    returning r.id, r.study_id, r.series_instance_uid, r.described_by, r.xmax = 0 as is_new
), {INSTANCES}
select 1 as level, id as study_id, study_instance_uid, null as series_instance_uid, described_by, false as is_new,
    null::bigint as instance_id from s
union all
select 2, r.study_id, s.study_instance_uid, r.series_instance_uid, r.described_by, r.is_new, null
    from r join s on s.id = r.study_id
union all
select 3, null, null, sop_instance_uid, null, null, id from i"""  # noqa: S608 - a statement's part, ours


async def store(
    connection: Connection, rows: Sequence[Row], journal: Journal, growing: Growing, *, replaces: bool = False
) -> tuple[dict[str, Outcome], list[Record]]:
    """Store rows of different SOP Instance UIDs in one transaction; what became of each, by that UID.

    The records are to be kept before anybody is told.
    """
    uids = [row.sop_instance_uid for row in rows]
    if growing.expects(rows) and (records := await growing.store(connection, rows, journal)) is not None:
        return dict.fromkeys(uids, Outcome.STORED), records
    async with connection.transaction():
        met = await connection.fetch(_MEET, uids, [row.key for row in rows])
        known = {one["sop_instance_uid"]: one for one in met if one["sop_instance_uid"]}
        claimed = {one["object_key"] for one in met if one["sop_instance_uid"] is None}
        outcomes = {row.sop_instance_uid: _judged(row, known, claimed) for row in rows}
        removed: list[str] = []
        if replaces:
            removed = await _make_room(connection, rows, outcomes, claimed)
        if fresh := [row for row in rows if row.key in claimed]:
            await _insert(connection, fresh)
        records = await journal.note(connection, uids, [row.stored for row in fresh], removed)
    growing.learn(fresh)
    return outcomes, records


async def restore(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """Inside a transaction: store rows of different UIDs that storage tells of; those whose UID has a row are left out."""
    found = await connection.fetch(_KNOWN, [row.sop_instance_uid for row in rows])
    known = {row["sop_instance_uid"] for row in found}
    if fresh := [row for row in rows if row.sop_instance_uid not in known]:
        await _insert(connection, fresh)
    return [row for row in rows if row.sop_instance_uid in known]


def _judged(row: Row, known: Mapping[str, asyncpg.Record], claimed: Container[str]) -> Outcome:
    stored = known.get(row.sop_instance_uid)
    if stored is None:
        return Outcome.STORED if row.key in claimed else Outcome.LOST
    if stored["object_key"] == row.key:  # committed before, and the answer was lost
        return Outcome.STORED
    return Outcome.SAME if stored["dataset_sha256"] == row.stored.dataset_sha256 else Outcome.CONFLICT


async def _make_room(
    connection: Connection, rows: Sequence[Row], outcomes: dict[str, Outcome], claimed: set[str]
) -> list[str]:
    """Take out what these rows replace; the keys of the objects that are no instances any more."""
    others = [row for row in rows if outcomes[row.sop_instance_uid] is Outcome.CONFLICT]
    if not others:
        return []
    keys = {one["key"] for one in await connection.fetch(_CLAIM, [row.key for row in others])}
    claimed |= keys
    for row in others:
        outcomes[row.sop_instance_uid] = Outcome.STORED if row.key in keys else Outcome.LOST
    return await gone.take_out(connection, [row.sop_instance_uid for row in others if row.key in keys])


async def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    studies = smallest(rows, lambda row: row.study_instance_uid)
    series = smallest(rows, lambda row: row.address)
    study_columns = described.columns([(count, *row.study) for row, count in studies.values()])
    series_columns = described.columns(
        [(count, row.study_instance_uid, *row.series) for row, count in series.values()]
    )
    made = await connection.fetch(_STORE, *instance_columns(rows), *study_columns, *series_columns)
    instance_ids = {one["series_instance_uid"]: one["instance_id"] for one in made if one["level"] == 3}
    if len(instance_ids) < len(rows):
        raise Raced
    for wants in {row.wants for row in rows if row.wants}:
        wanting = [instance_ids[row.sop_instance_uid] for row in rows if row.wants == wants]
        await connection.execute(QUEUE, *queued(wanting, *wants))
    smaller = [one for one in made if one["level"] != 3 and _is_smaller(one, studies, series)]
    if any(one["level"] == 1 for one in smaller):
        await described.describe_studies(connection, study_columns)
    if any(one["level"] == 2 for one in smaller):
        await described.describe_series(connection, series_columns)
    if changed := {one["study_id"] for one in [*smaller, *(one for one in made if one["is_new"])]}:
        await described.sum_up(connection, sorted(changed))


def _is_smaller(
    found: asyncpg.Record,
    studies: Mapping[str, tuple[Row, int]],
    series: Mapping[tuple[str, str], tuple[Row, int]],
) -> bool:
    """One of the new instances describes this study or series from now on."""
    study = found["study_instance_uid"]
    first = studies[study] if found["level"] == 1 else series[study, found["series_instance_uid"]]
    return bool(first[0].sop_instance_uid < found["described_by"])
