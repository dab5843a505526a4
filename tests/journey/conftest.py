"""Every journey is made twice: with the objects in a folder, and with the objects in S3."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from app.settings import Settings
from tests import cluster, seaweed
from tests.running import running


@pytest.fixture(scope="module", params=["folder", "s3"])
def server(
    request: pytest.FixtureRequest, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server in which this module's tests find what they have stored, and nothing else."""
    told = {}
    with pytest.MonkeyPatch.context() as environment:
        if request.param == "s3":
            for name, value in seaweed.CREDENTIALS.items():
                environment.setenv(name, value)
            endpoint = request.getfixturevalue("seaweed")
            told = {"storage_url": f"s3://{seaweed.BUCKET}/journey/{uuid4()}", "s3_endpoint": endpoint}
        settings = Settings(database_url=migrated, data_dir=tmp_path_factory.mktemp("server"), **told)
        with running(settings) as address:
            yield address
    cluster.clear(migrated)
