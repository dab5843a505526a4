"""The tools that acts are handed: opened by wiring, closed in reverse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from app.dicom.scanner import Limits
from app.index import Index
from app.storage.protocol import Storage
from app.storage.spool import Spools
from app.workers import Workers
from app.woven import Known


@dataclass(frozen=True, slots=True)
class Tools:
    """What an act needs to do its work, and the few decisions of the one who runs the server."""

    index: Index
    storage: Storage
    workers: Workers
    limits: Limits
    on_conflict: Literal["reject", "keep", "replace"] = "reject"
    max_instance_bytes: int | None = None
    rendition_wait_s: float = 5.0
    spools: Spools = field(default_factory=Spools)
    rows: Known = field(default_factory=Known)
