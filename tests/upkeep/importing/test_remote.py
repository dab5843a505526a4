"""Another server gets what it can take, is asked again when it may, and what it says is told per file."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from app.settings import Settings
from app.upkeep.importing import remote, start
from app.upkeep.importing.remote import Address
from app.upkeep.importing.tally import Ending
from app.upkeep.importing.target import Away, Bounds, Patience
from tests import make
from tests.faulty import Faulty
from tests.importing import sent, study, told, wishes
from tests.running import running
from tests.upkeep.importing.test_archives import noise, tarred, zipped


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as short as tests want them, requests as small."""
    real = Patience
    monkeypatch.setattr(start, "Patience", lambda stop: real(stop, first_s=0.01, longest_s=0.05))
    monkeypatch.setattr(remote, "BOUNDS", Bounds(requests=2, instances=4, size=64 << 10))


async def stored(server: str, **headers: str) -> set[bytes]:
    """The bytes of every instance of our own server."""
    async with httpx.AsyncClient(base_url=server, headers=headers, timeout=30) as client:
        found = (await client.get("/dicom-web/instances", params={"limit": "1000"})).json()
        urls = [
            f"/dicom-web/studies/{one['0020000D']['Value'][0]}/series/{one['0020000E']['Value'][0]}"
            f"/instances/{one['00080018']['Value'][0]}"
            for one in found
        ]
        accept = {"Accept": "application/dicom; transfer-syntax=*"}
        return {(await client.get(url, headers=accept)).content for url in urls}


async def test_another_reelweb_gets_all(server: str, tmp_path: Path) -> None:
    """From folders and archives, long ones and many in one request; a second run sends nothing."""
    made = set(study(tmp_path / "in", 11).values())
    members = {f"{number}": make.instance() for number in range(3)} | {"long": noise(3_000_000)}
    zipped(tmp_path / "in" / "a.zip", members)
    tarred(tmp_path / "in" / "a.tgz", others := {"1": make.instance(), "2": noise(2_500_000)}, "w:gz")
    (tmp_path / "in" / "broken.dcm").write_bytes(make.instance()[:-20])
    (tmp_path / "in" / "letter.txt").write_bytes(b"hello")
    result = await sent(Address(f"{server}/dicom-web"), tmp_path, tmp_path / "in")
    assert list(result.refused.values()) == ["The other server refused it: C000, it cannot understand it."]
    assert [Path(name).name for name in result.refused] == ["broken.dcm"]
    assert result.endings == {"stored": 17, "refused": 1, "skipped": 1}
    assert await stored(server) >= {*made, *members.values(), *others.values()}
    again = await sent(Address(f"{server}/dicom-web/"), tmp_path, tmp_path / "in")
    assert again.endings == {"remembered": 17, "refused": 1, "skipped": 1}


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_way_that_breaks_half_of_the_time(server: str, tmp_path: Path, way: str) -> None:
    """Cut while the body goes out, or when the answer comes: sent again until each is acknowledged."""
    made = {name: noise(30_000 + number) for number, name in enumerate("abcdefgh")}
    (tmp_path / "in").mkdir()
    for name, data in made.items():
        (tmp_path / "in" / name).write_bytes(data)
    tarred(tmp_path / "in" / "a.txz", packed := {"long": noise(3_000_000)}, "w:xz")
    async with Faulty(server) as faulty:
        faulty.cut_uploads_after = 40_000 if way == "up" else None
        faulty.cut_after = 20 if way == "down" else None
        faulty.times = 7
        result = await sent(Address(f"{faulty.endpoint}/dicom-web"), tmp_path, tmp_path / "in")
        assert faulty.times <= 0
    assert result.refused == {}
    assert result.endings == {"stored": 9}
    assert await stored(server) >= {*made.values(), *packed.values()}


async def test_a_server_that_is_away_ends_it_and_a_later_run_goes_on(server: str, tmp_path: Path) -> None:
    study(tmp_path / "in", 3)
    async with Faulty(server) as faulty:
        address = Address(f"{faulty.endpoint}/dicom-web")
        faulty.cut_after = 0
        with pytest.raises(Away):
            await sent(address, tmp_path, tmp_path / "in")
        faulty.cut_after = None
        assert (await sent(address, tmp_path, tmp_path / "in")).endings == {"stored": 3}
    with pytest.raises(Away, match="cannot be reached"):
        await sent(Address("http://127.0.0.1:9/dicom-web"), tmp_path, tmp_path / "in")


# --- a server that says what it is told to ----------------------------------------------------------------

Answer = tuple[int, dict[str, str], bytes]


class Scripted:
    """Answers one request after the other as it is told, the last answer for ever."""

    def __init__(self, *script: Answer | Callable[[bytes], Answer]) -> None:
        self.script, self.heads, self.bodies = list(script), list[dict[str, str]](), list[bytes]()
        self.lines = list[str]()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := (await reader.readline()).decode().strip():
                head: dict[str, str] = {}
                while field := (await reader.readline()).decode().strip():
                    name, _, value = field.partition(": ")
                    head[name.lower()] = value
                body = await reader.readexactly(int(head["content-length"]))
                self.lines.append(line)
                self.heads.append(head)
                self.bodies.append(body)
                step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                status, told, content = step(body) if callable(step) else step
                fields = "".join(f"{name}: {value}\r\n" for name, value in told.items())
                writer.write(
                    f"HTTP/1.1 {status} X\r\n{fields}Content-Length: {len(content)}\r\n\r\n".encode()
                )
                writer.write(content)
                await writer.drain()
        finally:
            writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Address]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0, limit=1 << 20)
        async with server:
            yield Address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dicom-web", "secret")


def outcome(status: int, **sequences: list[dict[str, Any]]) -> Answer:
    tags = {"failed": "00081198", "stored": "00081199", "other": "0008119A"}
    module = {tags[name]: {"vr": "SQ", "Value": items} for name, items in sequences.items()}
    return status, {"Content-Type": "application/dicom+json"}, orjson.dumps(module)


def of(uid: str, failure: int | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    return made if failure is None else made | {"00081197": {"vr": "US", "Value": [failure]}}


def three(folder: Path) -> Path:
    """Three files of one request, 9.1 to 9.3."""
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"{number}").write_bytes(make.instance(SOPInstanceUID=f"9.{number}"))
    return folder


Sending = Callable[[Scripted], Awaitable[tuple[dict[str, str], dict[str, int]]]]


@pytest.fixture
def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sending:
    """Sends three files in one request; what was refused by name, and the endings."""
    monkeypatch.setattr(remote, "BOUNDS", Bounds(requests=1, instances=4, size=64 << 10))
    folder = three(tmp_path / "in")

    async def send(script: Scripted) -> tuple[dict[str, str], dict[str, int]]:
        async with script.serving() as address:
            result = await sent(address, tmp_path, folder)
        return {Path(name).name: why for name, why in result.refused.items()}, result.endings

    return send


async def test_failures_are_mapped_to_files(sending: Sending) -> None:
    """By their UIDs; the request says its length, its type and who sends it."""
    failed = [of("9.2", 0x0122)]
    script = Scripted(outcome(202, failed=failed, stored=[of("9.1"), of("9.3")]))
    names, endings = await sending(script)
    assert names == {"2": "The other server refused it: 0122, its SOP Class is not supported."}
    assert endings == {"stored": 2, "refused": 1}
    [head] = script.heads
    assert head["authorization"] == "Bearer secret"
    assert head["accept"] == "application/dicom+json"
    assert head["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert "transfer-encoding" not in head
    assert script.lines == ["POST /dicom-web/studies HTTP/1.1"]
    assert script.bodies[0].count(b"Content-Type: application/dicom\r\n\r\n") == 3


async def test_what_an_answer_leaves_open_is_asked_one_by_one(sending: Sending) -> None:
    """A failure that names no instance must not be another file's."""

    def alone(body: bytes) -> Answer:
        return outcome(409, other=[{}]) if b"9.2\0" in body else outcome(200)

    script = Scripted(outcome(202, stored=[of("9.1")], other=[{}]), alone)
    names, endings = await sending(script)
    assert names == {"2": "The other server refused it."}
    assert endings == {"stored": 2, "refused": 1}
    assert len(script.bodies) == 3


@pytest.mark.parametrize("status", [400, 409, 413, 415, 500])
async def test_a_request_that_fails_as_a_whole_is_taken_apart(sending: Sending, status: int) -> None:
    """One bad part does not keep its neighbours out."""

    def alone(body: bytes) -> Answer:
        return (status, {}, b"no") if b"9.2\0" in body else outcome(200, stored=[])

    names, endings = await sending(Scripted((status, {}, b"no"), alone))
    assert names == {"2": f"The other server refused it: status {status}."}
    assert endings == {"stored": 2, "refused": 1}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_server_is_asked_again(sending: Sending, status: int) -> None:
    busy = (status, {"Retry-After": "0"}, b"")
    script = Scripted(busy, busy, outcome(200))
    assert (await sending(script))[1] == {"stored": 3}
    assert len(script.bodies) == 3
    assert len({body[34:] for body in script.bodies}) == 3 or len(set(map(len, script.bodies))) == 1


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("3", 3.0),
        (" 120 ", 120.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", -1.0),
    ],
)
async def test_the_pause_is_the_one_that_is_asked_for(told: str, expected: float | None) -> None:
    """Seconds or a date, one that is past included."""
    found = remote._retry_after(httpx.Response(503, headers={"Retry-After": told}))
    assert found == expected or (expected == -1.0 and found is not None and found < 0)


@pytest.mark.parametrize(
    ("status", "why"),
    [(401, "wants a token"), (403, "does not let"), (404, "no DICOMweb root"), (307, "another address")],
)
async def test_a_closed_door_ends_it_at_once(sending: Sending, status: int, why: str) -> None:
    """The next thousand files would meet the same."""
    script = Scripted((status, {"Location": "http://elsewhere"}, b""))
    with pytest.raises(Away, match=why):
        await sending(script)
    assert len(script.bodies) == 1


async def test_one_instance_that_no_server_survives_keeps_no_other_out(sending: Sending) -> None:
    def answer(body: bytes) -> Answer:
        return (502, {}, b"") if b"9.2\0" in body else outcome(200)

    names, endings = await sending(Scripted(answer))
    assert names == {"2": "The other server answers with status 502."}
    assert endings == {"stored": 2, "refused": 1}


async def test_a_file_that_breaks_off_costs_its_neighbours_nothing(server: str, tmp_path: Path) -> None:
    """The request that it was part of is given up, the others are sent again."""
    members = {f"{number}": noise(20_000 + 2000 * number) for number in range(3)}
    path = zipped(tmp_path / "a.zip", members)
    data = bytearray(path.read_bytes())
    data[data.index(members["1"][2000:2020]) if members["1"][2000:2020] in data else 30_000] ^= 1
    path.write_bytes(data)
    result = await sent(Address(f"{server}/dicom-web"), tmp_path, path)
    assert list(result.refused.values()) == ["The archive is damaged."]
    assert result.count(Ending.STORED) == 2


async def test_a_wish_to_stop_ends_the_pauses(tmp_path: Path) -> None:
    study(tmp_path / "in", 2)
    said, stop = told(), asyncio.Event()
    script = Scripted((503, {"Retry-After": "300"}, b""))
    async with script.serving() as address:
        task = asyncio.create_task(start.to(address, wishes([tmp_path / "in"], tmp_path), said.tally, stop))
        while not script.bodies:  # noqa: ASYNC110 - the other server has no event
            await asyncio.sleep(0.01)
        stop.set()
        with pytest.raises(Away):
            await asyncio.wait_for(task, 30)


# --- who we are, and whom we trust -------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key; it is its own authority."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


async def test_over_tls_with_a_token_and_an_authority_of_its_own(
    migrated: str, tmp_path: Path, authority: tuple[Path, Path]
) -> None:
    """Without the authority, or with another token, nothing is sent."""
    secret = "s3cret"
    (tmp_path / "tokens").write_text(
        f"me read,write {hashlib.sha256(secret.encode()).hexdigest()}\n", "utf-8"
    )
    settings = Settings(
        database_url=migrated,
        data_dir=tmp_path / "server",
        tokens_file=tmp_path / "tokens",
        allowed_hosts=("localhost", "127.0.0.1"),
    )
    made = study(tmp_path / "in", 2)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority)
    with running(settings) as server:
        async with Faulty(server, tls) as front:
            url = f"{front.endpoint}/dicom-web"
            for address, why in (
                (Address(url, secret), "not trusted: see --ca"),
                (Address(url, "other", authority[0]), "token"),
                (Address(url, None, authority[0]), "token"),
            ):
                with pytest.raises(Away, match=why):
                    await sent(address, tmp_path, tmp_path / "in")
            result = await sent(Address(url, secret, authority[0]), tmp_path, tmp_path / "in")
        assert result.endings == {"stored": 2}
        assert await stored(server, Authorization=f"Bearer {secret}") >= set(made.values())


def test_user_and_password_are_a_token_too() -> None:
    assert Address("http://x", "me:secret").headers["Authorization"] == "Basic bWU6c2VjcmV0"
    assert "secret" not in repr(Address("http://x", "secret"))
    assert Address("http://x", "secret").is_overheard
    assert not Address("https://x", "secret").is_overheard


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http://", "nonsense", "http://me:secret@x/dicom-web", "http://x/?a=b", "http://x/#a"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="--url must be"):
        Address(url)
