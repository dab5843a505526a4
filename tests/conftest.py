"""What every test may use: a real PostgreSQL, a real folder, a server on a real socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from app.settings import Settings
from tests.running import running

hypothesis_settings.register_profile("default", deadline=None, max_examples=50)
hypothesis_settings.register_profile("heavy", deadline=None, max_examples=2000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with nothing stored in it."""
    folder: Path = tmp_path_factory.mktemp("server")
    with running(Settings(database_url=database, data_dir=folder, _env_file=None)) as address:
        yield address
