"""Store, replace, delete, sweep, die and reindex in any order: the archive is a dictionary with a disk."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app import retrieve, store
from app.errors import NotFound
from app.tools import Tools
from app.upkeep import reindex, sweep, verify
from app.upkeep.findings import Finding, Report
from app.upkeep.objects import Pace
from tests import make
from tests.index import rows
from tests.upkeep_tools import content, send, tools

T = TypeVar("T")
SOPS, PLACES, SAYS = st.integers(0, 4), st.integers(0, 3), st.integers(0, 2)


def _address(sop: int, place: int) -> tuple[str, str, str]:
    return f"1.1.{place // 2}", f"1.2.{place % 2}", f"1.3.{sop}"


def _content(sop: int, place: int, says: int) -> bytes:
    study, series, instance = _address(sop, place)
    return make.instance(
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        SOPInstanceUID=instance,
        PatientName=f"N{says}",
        AccessionNumber="A",
        PatientID="P",
        InstanceNumber=says,
    )


class Archive(RuleBasedStateMachine):
    """Two servers over one storage, and the dictionary that they must be."""

    database = ""

    def __init__(self) -> None:
        super().__init__()
        shared = Path("/dev/shm")
        self._folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._kept: dict[int, tuple[int, bytes]] = {}
        self._strangers = 0
        self._run(self._emptied())
        self._servers = self._run(self._opened())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    async def _opened(self) -> list[Tools]:
        one = await self._stack.enter_async_context(tools(self.database, self._folder, "replace"))
        two = await self._stack.enter_async_context(tools(self.database, self._folder, "reject"))
        return [one, two]

    async def _emptied(self) -> None:
        connection = await asyncpg.connect(self.database)
        await connection.execute(rows.EMPTY)
        await connection.close()

    @rule(sop=SOPS, place=PLACES, says=SAYS)
    def replace(self, sop: int, place: int, says: int) -> None:
        """The server that lets the newest take the place is always content."""
        sent = _content(sop, place, says)
        assert self._run(send(self._servers[0], sent)).failure is None
        self._kept[sop] = place, sent

    @rule(sop=SOPS, place=PLACES, says=SAYS)
    def store(self, sop: int, place: int, says: int) -> None:
        """The other one keeps the first."""
        sent = _content(sop, place, says)
        is_other = sop in self._kept and self._kept[sop] != (place, sent)
        assert (self._run(send(self._servers[1], sent)).failure is not None) == is_other
        self._kept.setdefault(sop, (place, sent))

    @rule(sop=SOPS, place=PLACES, level=st.integers(1, 3), server=st.integers(0, 1))
    def delete(self, sop: int, place: int, level: int, server: int) -> None:
        address = _address(sop, place)[:level]
        gone = [one for one, (at, _) in self._kept.items() if _address(one, at)[:level] == address]
        try:
            self._run(store.remove(self._servers[server], *address))
        except NotFound:
            assert not gone
        else:
            assert gone
        for one in gone:
            del self._kept[one]

    @rule()
    def sweep(self) -> None:
        """Whatever may go goes at once; keys that a server had in advance are taken from it too."""
        self._run(self._swept())

    async def _swept(self) -> None:
        for one in self._servers:
            await one.index.pending.close()
        await sweep.once(self._servers[0], sweep.Knobs(grace_s=0))

    @rule(sop=SOPS, place=PLACES)
    def die(self, sop: int, place: int) -> None:
        """An upload becomes durable and its server dies before the row."""
        self._run(self._died(_content(sop, place, 9)))

    async def _died(self, sent: bytes) -> None:
        one = self._servers[0]
        async with one.storage.upload(await one.index.pending.take()) as upload:
            await upload.write(sent)

    @rule()
    def reindex(self) -> None:
        """The database is lost."""
        self._run(self._reindexed())

    async def _reindexed(self) -> None:
        await self._stack.aclose()
        await self._emptied()
        async with tools(self.database, self._folder, rebuilds=True) as opened:
            found: list[Finding] = []
            await reindex.from_storage(opened, Report(found.append), Pace())
            assert {one.what for one in found} <= {"never acknowledged"}
        self._servers = await self._opened()

    @invariant()
    def is_the_dictionary(self) -> None:
        """Exactly what is kept, bit for bit, and everything is well."""
        assert self._run(self._read()) == {
            _address(sop, place): sent for sop, (place, sent) in self._kept.items()
        }

    async def _read(self) -> dict[tuple[str, str, str], bytes]:
        one, read = self._servers[1], {}
        for study in ("1.1.0", "1.1.1"):
            try:
                async for page in retrieve.instances(one, study):
                    for at in page:
                        address = at.study_instance_uid, at.series_instance_uid, at.sop_instance_uid
                        read[address] = await content(one, at.key)
            except NotFound:
                continue
        found: list[Finding] = []
        await verify.run(one, verify.Wishes(), Report(found.append))
        assert {finding.what for finding in found} <= {"never acknowledged"}
        return read

    def teardown(self) -> None:
        self._run(self._stack.aclose())
        self._loop.close()
        shutil.rmtree(self._folder)


@pytest.mark.timeout(240)
def test_the_archive_is_a_dictionary(database: str) -> None:
    Archive.database = database
    steps = settings(settings.get_profile("default"), max_examples=8, stateful_step_count=15, deadline=None)
    run_state_machine_as_test(Archive, settings=steps)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_the_archive_is_a_dictionary_for_long(database: str) -> None:
    Archive.database = database
    run_state_machine_as_test(
        Archive, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )
