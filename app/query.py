"""Match attributes: QIDO-RS and C-FIND ask the same of the index (PS3.18 10.6, PS3.4 C.4.1)."""

from __future__ import annotations

from app.dicom.matching import Query
from app.index import Index
from app.index import search as rows
from app.index.found import PLACEHOLDER
from app.index.search import Found

__all__ = ["PLACEHOLDER", "Found", "search"]


async def search(index: Index, query: Query) -> Found:
    """The studies, series or instances that match, as DICOM JSON, and how many more there are.

    Nothing that matches is no error, an unknown study in the address neither. Addresses in the rows are relative
    to `@/`: what stands for the root is the door's to know.
    """
    return await rows.search(index, query)
