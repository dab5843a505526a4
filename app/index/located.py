"""One stored instance and its object, as statements select it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg


@dataclass(frozen=True, slots=True)
class Located:
    """One stored instance and its object."""

    instance_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    key: str
    size: int
    dataset_offset: int
    dataset_sha256: bytes
    prefix_sha256: bytes
    number_of_frames: int
    stored_at: datetime


LOCATED = """i.id as instance_id, s.study_instance_uid, r.series_instance_uid, i.sop_instance_uid, i.sop_class_uid,
    i.transfer_syntax_uid, i.object_key as key, i.size, i.dataset_offset, i.dataset_sha256, i.prefix_sha256,
    i.number_of_frames, i.stored_at"""


def located(row: asyncpg.Record) -> Located:
    """From a row that starts with LOCATED."""
    return Located(*row[: len(Located.__slots__)])
