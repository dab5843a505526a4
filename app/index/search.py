"""Searches as one statement: ids in order first, rows of the page after; DICOM JSON comes as text (PS3.18 10.6)."""

# ruff: noqa: S608 - assembled from the fixed tables below; every value is an argument

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from app.dicom.attributes import Level
from app.dicom.matching import Between, Like, Match, Named, OneOf, Query
from app.index.archive import Index
from app.index.found import page

MANY = 1000
"""Further results are counted up to here (behaviour: Warning 299)."""

WITH_DATA_SETS = 100
"""So many rows have an answer at most whose fields stand in the data sets alone: they are read into memory."""


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a page as JSON objects; `remaining` is exact up to MANY, MANY + 1 means more than that."""

    rows: list[bytes]
    remaining: int


# What each key is matched against. The keys are made alike by app.index.rows and app.dicom.matching.
_COLUMNS = {
    "0020000D": "s.study_instance_uid",
    "00080020": "s.study_date",
    "00080030": "s.study_time",
    "00080050": "s.accession_number",
    "00080090": "s.referring_physician_name_key",
    "00081030": "s.study_description_key",
    "00100010": "s.patient_name_key",
    "00100020": "s.patient_id",
    "00100021": "s.issuer_of_patient_id",
    "00100030": "s.patient_birth_date",
    "00100040": "s.patient_sex",
    "00200010": "s.study_id",
    "0020000E": "r.series_instance_uid",
    "00080021": "r.series_date",
    "00080060": "r.modality",
    "0008103E": "r.series_description_key",
    "00180015": "r.body_part_examined",
    "00200011": "r.series_number",
    "00400244": "r.performed_start_date",
    "00400245": "r.performed_start_time",
    "00080018": "i.sop_instance_uid",
    "00080016": "i.sop_class_uid",
    "00200013": "i.instance_number",
}
_MOMENTS = {
    "00080020": "(s.study_date, s.study_time)",
    "00400244": "(r.performed_start_date, r.performed_start_time)",
}
_ELEMENTS = {
    "00400275.00400009": "unnest(r.scheduled_procedure_step_ids) as e (key)",
    "00400275.00401001": "unnest(r.requested_procedure_ids) as e (key)",
}
_LINKS = frozenset({"00080061"})

_IDS = {Level.STUDY: "s.id", Level.SERIES: "r.id", Level.INSTANCE: "i.id"}
_ORDERS = {
    Level.STUDY: "s.study_date desc nulls last, s.study_time desc nulls last, s.id desc",
    Level.SERIES: "r.study_id, r.series_number, r.id",
    Level.INSTANCE: "i.study_id, i.series_id, i.instance_number, i.id",
}
_TABLES = {Level.STUDY: "study s", Level.SERIES: "series r", Level.INSTANCE: "instance i"}
_PARENT_OF = {Level.SERIES: "r.study_id", Level.INSTANCE: "i.study_id"}

_STUDY_COLUMNS = (
    "s.study_instance_uid, s.attributes as study, s.modalities, s.number_of_series, s.number_of_instances"
)
_SERIES_COLUMNS = (
    "r.series_instance_uid, r.attributes as series, r.number_of_instances as instances_of_series"
)
_ROWS = {
    Level.STUDY: (_STUDY_COLUMNS, "study s"),
    Level.SERIES: (f"{_STUDY_COLUMNS}, {_SERIES_COLUMNS}", "series r join study s on s.id = r.study_id"),
    Level.INSTANCE: (
        f"{_STUDY_COLUMNS}, {_SERIES_COLUMNS}, i.sop_instance_uid, i.attributes as instance",
        "instance i join series r on r.id = i.series_id join study s on s.id = i.study_id",
    ),
}
_STATEMENT = """
with hit as materialized (
    select {id} as id from {tables} where {conditions} order by {order} limit {limit} + {many} offset {offset}
), listed as (
    select id, row_number() over () as place from hit
)
select n.found, p.* from (select count(*) as found from hit) n left join (
    select listed.place, {columns} from listed join {rows} on {id} = listed.id where listed.place <= {limit}
) p on true order by p.place"""


async def search(index: Index, query: Query) -> Found:
    """The rows that match; addresses in them start with `@/` (app.index.found.PLACEHOLDER)."""
    form = page(query)
    if form.needs_metadata:
        query = replace(query, limit=min(query.limit, WITH_DATA_SETS))
    statement, arguments = _statement(query)
    records = await index.reader.fetch(statement, *arguments)
    places = [record for record in records if record["place"] is not None]
    if form.needs_metadata:
        rows = await asyncio.to_thread(form.rows, places)
    else:
        rows = form.rows(places)
    remaining = max(0, records[0]["found"] - query.limit)
    return Found(rows, min(remaining, MANY + 1))


def _statement(query: Query) -> tuple[str, list[Any]]:
    sql = _Conditions()
    conditions = [*_path(query, sql), *(sql.matching(match) for match in query.matches)]
    columns, rows = _ROWS[query.level]
    if page(query).needs_metadata:
        columns += ", i.metadata"
    text = _STATEMENT.format(
        id=_IDS[query.level],
        tables=_tables(query),
        conditions=" and ".join(conditions) or "true",
        order=_ORDERS[query.level],
        limit=sql.argument(query.limit) + "::bigint",
        many=MANY + 1,
        offset=sql.argument(query.offset) + "::bigint",
        columns=columns,
        rows=rows,
    )
    return text, sql.arguments


def _tables(query: Query) -> str:
    """The table of the level, and those above that something is asked of."""
    used = {"s." if match.tag in _LINKS else _COLUMNS.get(match.tag, "r.")[:2] for match in query.matches}
    tables = _TABLES[query.level]
    if query.level is Level.INSTANCE and "r." in used:
        tables += " join series r on r.id = i.series_id"
    if query.level is not Level.STUDY and "s." in used:
        tables += f" join study s on s.id = {_PARENT_OF[query.level]}"
    return tables


def _path(query: Query, sql: _Conditions) -> Iterator[str]:
    """What the address says: resolved to ids first, so that the order comes from an index."""
    if query.study is None or query.level is Level.STUDY:
        return
    study = f"(select id from study where study_instance_uid = {sql.argument(query.study)})"
    yield f"{_PARENT_OF[query.level]} = {study}"
    if query.series is not None and query.level is Level.INSTANCE:
        series = sql.argument(query.series)
        yield f"i.series_id = (select id from series where study_id = {study} and series_instance_uid = {series})"


@dataclass(slots=True)
class _Conditions:
    """SQL from a fixed table of columns; every value is an argument."""

    arguments: list[Any] = field(default_factory=list)

    def argument(self, value: Any) -> str:
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def matching(self, match: Match) -> str:
        if match.tag in _ELEMENTS:
            return f"exists (select from {_ELEMENTS[match.tag]} where {self._compared('e.key', match.value)})"
        if match.tag in _LINKS:
            return f"s.id in (select m.study_id from study_modality m where {self._compared('m.modality', match.value)})"
        if isinstance(match.value, Between) and isinstance(match.value.low or match.value.high, tuple):
            return self._between(_MOMENTS[match.tag], match.value)
        return self._compared(_COLUMNS[match.tag], match.value)

    def _compared(self, column: str, value: OneOf | Like | Named | Between) -> str:
        match value:
            case OneOf(()):
                return "false"
            case OneOf((one,)):
                return f"{column} = {self.argument(one)}"
            case OneOf(values):
                return f"{column} = any({self.argument(list(values))})"
            case Like(patterns):
                return f"{column} like any({self.argument([_like(one) for one in patterns])}::text[])"
            case Named(patterns):
                return " and ".join(f"{column} like {self.argument(_like(one))}" for one in patterns)
            case Between():
                return self._between(column, value)

    def _between(self, column: str, value: Between) -> str:
        return (
            " and ".join(
                f"{column} {operator} {self._end(end)}"
                for operator, end in ((">=", value.low), ("<=", value.high))
                if end is not None
            )
            or "true"
        )

    def _end(self, end: Any) -> str:
        if isinstance(end, tuple):
            return f"({self.argument(end[0])}::date, {self.argument(end[1])}::text)"
        return self.argument(end)


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
