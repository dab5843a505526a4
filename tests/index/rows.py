"""Everything the index says, without what only says how it came to say it (ids, versions, times of caches)."""

from __future__ import annotations

from typing import Any

from app.index.connection import Connection

_LEFT_OUT = {"id", "study_id", "series_id", "instance_id", "version", "changed_at"}

_TABLES = {
    "study": "select * from study order by study_instance_uid",
    "series": """select s.study_instance_uid, r.* from series r join study s on s.id = r.study_id
        order by s.study_instance_uid, r.series_instance_uid""",
    "study_modality": """select s.study_instance_uid, m.* from study_modality m join study s on s.id = m.study_id
        order by s.study_instance_uid, m.modality""",
    "instance": """select s.study_instance_uid, r.series_instance_uid, i.* from instance i
        join series r on r.id = i.series_id join study s on s.id = i.study_id order by i.sop_instance_uid""",
}
EMPTY = "delete from study; delete from pending; delete from journal; delete from removed; delete from series_metadata; delete from upkeep"

Told = dict[str, list[dict[str, Any]]]


async def told(sql: Connection, *without: str) -> Told:
    """Row for row; `without` names more columns to leave out."""
    left_out = _LEFT_OUT | set(without)
    return {
        table: [
            {name: value for name, value in row.items() if name not in left_out}
            for row in await sql.fetch(statement)
        ]
        for table, statement in _TABLES.items()
    }
