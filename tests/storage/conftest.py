"""The storages that every promise of the protocol is tried on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.storage.local import LocalStorage


@pytest.fixture(params=["nowait", "threads"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LocalStorage]:
    """A folder that answers from memory where it can, and one whose file system refuses to."""
    async with LocalStorage(tmp_path / "root", open_files=4) as opened:
        opened._nowait = opened._nowait and request.param == "nowait"
        yield opened
