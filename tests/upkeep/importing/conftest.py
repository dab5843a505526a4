"""What tests of imports share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.tools import Tools
from tests.upkeep_tools import tools as opened_tools


@pytest.fixture
async def tools(database: str, memory: Path) -> AsyncIterator[Tools]:
    """An empty archive."""
    async with opened_tools(database, memory) as tools:
        yield tools
