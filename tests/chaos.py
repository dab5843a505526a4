"""SIGKILL at random moments under sixteen connections that store, replace and delete: nothing lost, nothing undead.

    python -m tests.chaos --rounds 1000 --folder /var/tmp/chaos

Each round: sixteen connections work on instances of their own in studies of all; one process is killed; the
server is ready again; what was answered must be so, bit for bit, and what was not answered is either as before
or as after. Every 50th round everything is compared, by `reelweb verify` too, and the database is thrown away
and made again from storage. Started again on the same folder it goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import asyncpg
import httpx

from tests import make
from tests.serving import Server, command, until

CONNECTIONS, UIDS, STUDIES = 16, 12, 5
SIZES = (600, 600, 600, 20_000, 20_000, 300_000, 3_000_000)
VICTIMS = ("supervisor", "web-worker", "web-worker", "jobs", "postgres")
DICOM = {"Content-Type": "application/dicom"}
MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=reelweb-test'}
GONE = ""


class Broken(Exception):
    """A promise that was not kept."""


@dataclass(frozen=True, slots=True)
class Known:
    """Where an instance is and what its content must be; the digest of nothing when it is not stored."""

    study: str
    series: str
    digest: str

    def path(self, uid: str) -> str:
        return f"/dicom-web/studies/{self.study}/series/{self.series}/instances/{uid}"


@dataclass
class Model:
    """What has been answered, by SOP Instance UID; `doubt` has what was asked for and not answered."""

    known: dict[str, Known] = field(default_factory=dict)
    doubt: dict[str, tuple[Known, bytes]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    rounds: int = 0
    done: Counter[str] = field(default_factory=Counter)
    is_whole: bool = True

    def save(self, file: Path, *, is_whole: bool) -> None:
        """Between rounds it is whole; what a round that was cut short did is not in it."""
        rows = {uid: (one.study, one.series, one.digest) for uid, one in self.known.items()}
        new = file.with_suffix(".new")
        new.write_text(
            json.dumps({"rounds": self.rounds, "done": self.done, "known": rows, "is_whole": is_whole})
        )
        new.replace(file)

    @classmethod
    def load(cls, file: Path) -> Model:
        if not file.exists():
            return cls()
        told = json.loads(file.read_text())
        known = {uid: Known(*row) for uid, row in told["known"].items()}
        return cls(known, rounds=told["rounds"], done=Counter(told["done"]), is_whole=told["is_whole"])


class Client:
    """One connection; nobody else touches its instances, so what it was answered holds."""

    def __init__(self, number: int, model: Model, http: httpx.AsyncClient, chance: random.Random) -> None:
        self._model, self._http, self._chance = model, http, chance
        self._uids = [f"2.25.{number}.{one}" for one in range(1, UIDS + 1)]

    async def work(self) -> None:
        """Until the server is gone, or we are told to stop."""
        with suppress(httpx.HTTPError):
            while True:
                free = [uid for uid in self._uids if uid not in self._model.doubt]
                if len(free) < 3:
                    return
                if self._chance.random() < 0.25:
                    await self._delete(self._chance.choice(free))
                else:
                    await self._store(self._chance.sample(free, self._chance.choice((1, 1, 1, 3))))

    async def _store(self, uids: list[str]) -> None:
        sent = {uid: _instance(uid, self._chance) for uid in uids}
        for uid, (known, content) in sent.items():
            self._model.doubt[uid] = known, content
            self._model.touched.add(uid)
        body = [content for _, content in sent.values()]
        url = "/dicom-web/studies"
        if len(body) == 1:
            answer = await self._http.post(url, content=body[0], headers=DICOM)
        else:
            answer = await self._http.post(url, content=make.multipart(body), headers=MULTIPART)
        stored = {item["00081155"]["Value"][0] for item in answer.json().get("00081199", {}).get("Value", ())}
        for uid in stored:
            self._model.known[uid] = self._model.doubt.pop(uid)[0]
            self._model.done["stored"] += 1
        self._model.done["not now"] += len(sent) - len(stored)

    async def _delete(self, uid: str) -> None:
        before = self._model.known.get(uid)
        if before is None:
            return
        after = Known(before.study, before.series, GONE)
        self._model.doubt[uid] = after, b""
        self._model.touched.add(uid)
        answer = await self._http.delete(before.path(uid))
        if answer.status_code == 503:
            self._model.done["not now"] += 1
            return
        expected = 404 if before.digest == GONE else 204
        if answer.status_code != expected:
            raise Broken(f"DELETE of {uid} is answered {answer.status_code} instead of {expected}")
        del self._model.doubt[uid]
        self._model.known[uid] = after
        self._model.done["deleted"] += 1


def _instance(uid: str, chance: random.Random) -> tuple[Known, bytes]:
    study = f"1.2.{chance.randrange(STUDIES)}"
    series = f"{study}.{chance.randrange(3)}"
    content = make.instance(
        SOPInstanceUID=uid,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        Modality=chance.choice(("CT", "MR", "SR")),
        PatientName=f"Name{chance.randrange(9)}",
        PixelData=chance.randbytes(chance.choice(SIZES)),
    )
    return Known(study, series, sha256(content).hexdigest()), content


class Chaos:
    """The server, its model, and what must be true of them."""

    def __init__(self, folder: Path, seed: int, settings: dict[str, str]) -> None:
        self._data, self._file = folder / "data", folder / "model.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.model = Model.load(self._file)
        self._chance = random.Random(f"{seed} {self.model.rounds}")
        self._settings = {"allow_delete": "true", "on_conflict": "replace", "grace_s": "120"} | settings
        self.server = self._start()
        if not self.model.is_whole:
            asyncio.run(self._look())

    async def _look(self) -> None:
        """We were cut short ourselves: what the server says now must stay."""
        self.model.known.clear()
        async with _client(self.server) as http:
            await _quiet(http)
            for row in (await http.get("/dicom-web/instances", params={"limit": "1000"})).json():
                uid, study, series = (row[tag]["Value"][0] for tag in ("00080018", "0020000D", "0020000E"))
                there = Known(study, series, GONE)
                self.model.known[uid] = Known(study, series, await _found(http, uid, [there]))

    def _start(self) -> Server:
        return Server(self._data, **self._settings).until_ready()  # type: ignore[arg-type] # names of settings

    def close(self) -> None:
        self.server.close()

    def round(self, every: int) -> None:
        """One kill and what must be true after it; each `every` rounds of everything."""
        victim = self._chance.choice(VICTIMS)
        self.model.save(self._file, is_whole=False)
        asyncio.run(self._under_load(victim))
        self._again(victim)
        self.model.done[f"killed {victim}"] += 1
        asyncio.run(self._settle())
        self.model.rounds += 1
        if self.model.rounds % every == 0:
            self.everything()
        self.model.save(self._file, is_whole=True)

    async def _under_load(self, victim: str) -> None:
        async with _client(self.server) as http:
            seeds = [random.Random(self._chance.random()) for _ in range(CONNECTIONS)]
            clients = [Client(number, self.model, http, one) for number, one in enumerate(seeds)]
            tasks = [asyncio.create_task(client.work()) for client in clients]
            await asyncio.sleep(self._chance.uniform(0.05, 1.2))
            self._kill(victim)
            await asyncio.sleep(self._chance.uniform(0, 0.3))
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, (httpx.HTTPError, ValueError)):
                    raise result

    def _kill(self, victim: str) -> None:
        if victim == "supervisor":
            self.server.process.kill()
        elif (child := self.server.child(victim)) is not None:
            child.kill()

    def _again(self, victim: str) -> None:
        """The server is ready; a killed supervisor is started anew, while its remains go down."""
        if victim == "supervisor":
            self.server.wait()
            self.server = self._start()
        until(self.server.answers, self.server)

    async def _settle(self) -> None:
        """What was touched is as answered; what was not answered is as before or as after, and then for good."""
        async with _client(self.server) as http:
            await _quiet(http)
            for uid in sorted(self.model.touched):
                before, doubt = self.model.known.get(uid), self.model.doubt.pop(uid, None)
                options = [one for one in (before, doubt and doubt[0]) if one]
                found = await _found(http, uid, options)
                if found not in {one.digest for one in options} | ({GONE} if before is None else set()):
                    raise Broken(f"{uid} is {found or 'gone'}, of {options}")
                if doubt is not None:
                    await self._ask_again(http, uid, doubt)
        self.model.touched.clear()

    async def _ask_again(self, http: httpx.AsyncClient, uid: str, doubt: tuple[Known, bytes]) -> None:
        """As a client does that had no answer."""
        known, content = doubt
        if known.digest == GONE:
            answer = await http.delete(known.path(uid))
            expected: tuple[int, ...] = (204, 404)
        else:
            answer = await http.post("/dicom-web/studies", content=content, headers=DICOM)
            expected = (200,)
        if answer.status_code not in expected:
            raise Broken(f"{uid} asked for again is answered {answer.status_code}: {answer.text[:300]}")
        self.model.known[uid] = known
        if await _found(http, uid, [known]) != known.digest:
            raise Broken(f"{uid} is not what was answered")

    def everything(self) -> None:
        """All of it, as the server tells it, as verify sees it, and as storage alone has it."""
        asyncio.run(self._compare())
        self._verify()
        self.server.close()
        if "database_url" not in self._settings:
            shutil.rmtree(self._data / "pg18")
        self.server = self._start()
        asyncio.run(self._compare())
        self.model.done["everything"] += 1

    async def _compare(self) -> None:
        live = {uid: one for uid, one in self.model.known.items() if one.digest != GONE}
        async with _client(self.server) as http:
            listed = (await http.get("/dicom-web/instances", params={"limit": "1000"})).json()
            if {row["00080018"]["Value"][0] for row in listed} != set(live):
                raise Broken("the list of instances is not what was answered")
            for uid, one in live.items():
                if await _found(http, uid, [one]) != one.digest:
                    raise Broken(f"{uid} is not what was answered")
        connection = await asyncpg.connect(self._settings.get("database_url") or self.server.dsn())
        try:
            if wrong := await connection.fetchval(WRONG):
                raise Broken(f"{wrong} studies are not counted right")
        finally:
            await connection.close()

    def _verify(self) -> None:
        told = command(self._data, "verify", **self._settings)
        wrong = [line for line in told.stdout.splitlines() if not line.startswith("never acknowledged")]
        if wrong or told.returncode > 1:
            raise Broken(f"verify says {wrong or told.stderr}")
        self.model.done["never acknowledged"] += len(told.stdout.splitlines())


WRONG = """
select count(*) from study s where number_of_instances <> (select count(*) from instance i where i.study_id = s.id)
or number_of_series <> (select count(*) from series r where r.study_id = s.id)
or described_by <> (select min(sop_instance_uid) from instance i where i.study_id = s.id)
or exists (select from series r where r.study_id = s.id and (
    number_of_instances <> (select count(*) from instance i where i.series_id = r.id)
    or described_by <> (select min(sop_instance_uid) from instance i where i.series_id = r.id)))"""


def _client(server: Server) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CONNECTIONS)
    return httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits, verify=False)


async def _quiet(http: httpx.AsyncClient) -> None:
    """Requests whose clients are gone have ended too: until then they may still do what they were asked for."""
    async with asyncio.timeout(60):
        while "reelweb_requests_in_flight 1.0" not in (await http.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _found(http: httpx.AsyncClient, uid: str, where: list[Known]) -> str:
    """The digest of what is stored under a UID at these places, of which at most one may have it."""
    digests = set()
    for path in {one.path(uid) for one in where}:
        answer = await http.get(path, headers={"Accept": "application/dicom"})
        if answer.status_code == 200:
            digests.add(sha256(answer.content).hexdigest())
        elif answer.status_code != 404:
            raise Broken(f"{path} is answered {answer.status_code}")
    if len(digests) > 1:
        raise Broken(f"{uid} is there twice")
    return digests.pop() if digests else GONE


@contextmanager
def chaos(folder: Path, seed: int, **settings: str) -> Iterator[Chaos]:
    """A server under chaos while the block lasts."""
    one = Chaos(folder, seed, settings)
    try:
        yield one
    finally:
        one.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/reelweb-chaos"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=50, help="rounds after which everything is compared")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the server"
    )
    wanted = parser.parse_args()
    began = time.monotonic()
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda told, _frame: stop.append(told))  # this round is brought to its end
    with chaos(wanted.folder, wanted.seed, **dict(one.split("=", 1) for one in wanted.set)) as one:
        try:
            while one.model.rounds < wanted.rounds and not stop:
                one.round(wanted.every)
                if one.model.rounds % 10 == 0:
                    print(f"{one.model.rounds} rounds, {time.monotonic() - began:.0f} s", flush=True)
        except Broken as error:
            print(f"round {one.model.rounds}: {error}\n{one.server.told[-4000:]}", flush=True)
            return 1
        print(f"{one.model.rounds} rounds, nothing lost, nothing undead: {dict(one.model.done)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
