"""The short form of `make chaos`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos import chaos


@pytest.mark.timeout(300)
def test_twenty_kills_lose_nothing_and_bring_nothing_back(tmp_path: Path) -> None:
    """Twenty rounds, less where the machine is slow; everything is compared after the tenth and at the end."""
    ends = time.monotonic() + 120
    with chaos(tmp_path, seed=int(time.time())) as one:
        while one.model.rounds < 20 and time.monotonic() < ends:
            one.round(every=10)
        assert one.model.done["stored"] > 0
