"""A server whose folder and database the tests of a module may look into."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests import cluster
from tests.web import doors


@pytest.fixture(scope="module")
def archive(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[doors.Archive]:
    """A server with what lies behind its doors, for a module's tests."""
    with doors.serving(migrated, tmp_path_factory.mktemp("archive")) as archive:
        yield archive
    cluster.clear(migrated)


@pytest.fixture
def empty(postgresql: str) -> str:
    """A database of the test's own: nobody else reserves keys in it."""
    return cluster.database(postgresql, f"reelweb_{uuid4().hex}")
