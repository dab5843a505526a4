"""A range of what is known is answered like the first one, byte for byte, and no longer than it is true."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from socket import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.extent import Extents
from app.storage.local import LocalStorage
from app.storage.local_files import OpenFiles
from app.web import again, connection
from app.web.again import Again, Known
from app.web.asked import Asked
from app.web.pour import Pour, Read
from tests import make, make_video
from tests.make_video import Clip
from tests.web import doors
from tests.web.doors import Archive
from tests.web.players import Player, playable, player, settled, whole

MIB = 1 << 20
OF_EACH = {"content-length", "content-range", "date", "x-request-id"}


@dataclass
class Seen:
    """The requests that were known again, one by one."""

    known: list[bool] = field(default_factory=list)


@pytest.fixture
def seen(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Seen:
    settled(archive)  # what an earlier test stored is made ready
    told, look = Seen(), Again.known

    def known(self: Again, request: Asked) -> Known | None:
        found = look(self, request)
        told.known.append(found is not None)
        return found

    monkeypatch.setattr(Again, "known", known)
    return told


CLIPS = {
    "units, long and short": Clip(width=1280, height=720, kilobits=20_000, gop=48),
    "short units": Clip(width=640, height=360, kilobits=4000),
}


@pytest.fixture(scope="module", params=["mp4", *CLIPS])
def any_video(
    request: pytest.FixtureRequest, archive: Archive, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """One whose bytes lie as they are served, and ones of which lengths are laid in."""
    if request.param == "mp4":
        url: str = request.getfixturevalue("video")
        return url
    clip, folder = CLIPS[request.param], tmp_path_factory.mktemp("units")
    times = 9 * MIB // make_video.stream(folder / "unit", clip).stat().st_size
    made = make_video.instance(folder / "video.dcm", clip, "annexb", times=times)
    return playable(archive, made.path.read_bytes())


@pytest.fixture(scope="module")
def video(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a video of 9 MiB, playable."""
    path = tmp_path_factory.mktemp("again") / "video.dcm"
    make_video.large(path, 9 * MIB)
    return playable(archive, path.read_bytes())


def test_the_next_range_is_known_and_answered_like_the_first(video: str, seen: Seen) -> None:
    """Also on another connection; but for its range, its date and its id the head is the same."""
    data = whole(video)
    with player(video, "the same") as one:
        first = one.get(video, 0, 100)
        second = one.get(video, 5000, 70_000)
    with player(video, "the same") as other:
        third = other.get(video, len(data) - 10, len(data) + 100)
    assert seen.known == [False, True, True]
    assert [one.status for one in (first, second, third)] == [206] * 3
    assert (second.body, third.body) == (data[5000:70_000], data[-10:])
    assert second.headers["content-range"] == f"bytes 5000-69999/{len(data)}"
    assert third.headers["content-range"] == f"bytes {len(data) - 10}-{len(data) - 1}/{len(data)}"
    assert len({one.headers["x-request-id"] for one in (first, second, third)}) == 3
    assert {
        "etag",
        "last-modified",
        "vary",
        "x-content-type-options",
        "accept-ranges",
    } <= first.headers.keys()
    for later in (second, third):
        assert later.headers.keys() == first.headers.keys()
        assert {k: v for k, v in later.headers.items() if k not in OF_EACH} == {
            k: v for k, v in first.headers.items() if k not in OF_EACH
        }


def test_its_date_is_its_own(video: str, seen: Seen) -> None:
    """The server makes that line anew each second, and what is known lasts for longer."""
    with player(video) as viewer:
        dates = [viewer.get(video, 0, 9).headers["date"]]
        for _ in range(2):
            time.sleep(1.5)
            dates.append(viewer.get(video, 0, 9).headers["date"])
    assert seen.known == [False, True, True]
    assert len(set(dates)) == 3


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "a small window"])
@pytest.mark.parametrize("unread", [True, False], ids=["by the kernel", "read"])
def test_random_ranges_equal_the_whole(
    any_video: str, seen: Seen, *, slow: bool, unread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the kernel takes all of it at once, some of it, or never sees a file, as with an object store."""
    if not unread:
        monkeypatch.setattr(LocalStorage, "files", None)
    video = any_video
    data, random = whole(video), Random(7)
    with player(video, slow=slow) as viewer:
        viewer.get(video, 0, 1)
        for _ in range(40):
            start = random.randrange(len(data))
            stop = min(len(data), start + 1 + random.randrange(1 << random.randrange(1, 23)))
            answer = viewer.get(video, start, stop)
            assert (answer.status, answer.body == data[start:stop]) == (206, True)
    assert seen.known == [False] + [True] * 40


def test_a_viewer_who_rests_gets_all_of_it(any_video: str, seen: Seen) -> None:
    data = whole(video := any_video)
    with player(video, slow=True) as viewer:
        viewer.get(video, 0, 1)
        viewer._client.sendall(viewer.asks(video, 1, 5 * MIB))
        time.sleep(0.3)
        assert viewer.take(0.002).body == data[1 : 5 * MIB]
        assert viewer.get(video, 0, 10).body == data[:10]
    assert seen.known == [False, True, True]


def test_one_who_leaves_in_the_midst_harms_nobody(any_video: str, seen: Seen) -> None:
    data = whole(video := any_video)
    for _ in range(3):
        with player(video, slow=True) as viewer:
            viewer.get(video, 0, 1)
            viewer._client.sendall(viewer.asks(video, 0, 8 * MIB))
            viewer._client.recv(1000)
    with player(video) as viewer:
        assert viewer.get(video, 7, 1007).body == data[7:1007]


def test_requests_one_behind_the_other_are_answered_in_turn(any_video: str, seen: Seen) -> None:
    """While a known one is under way, in one packet with it, or before it came."""
    data = whole(video := any_video)
    with player(video, slow=True) as viewer:
        viewer.get(video, 0, 1)
        viewer._client.sendall(viewer.asks(video, 0, 4 * MIB))
        viewer._client.sendall(viewer.asks(video, 10, 20))
        viewer._client.sendall(viewer.asks(video, 30, 40) + viewer.asks(video, 50, 60))
        assert [viewer.take().body for _ in range(4)] == [
            data[: 4 * MIB], data[10:20], data[30:40], data[50:60]
        ]  # fmt: skip
        half = viewer.asks(video, 70, 80)
        viewer._client.sendall(half[:50])
        time.sleep(0.1)
        viewer._client.sendall(half[50:])
        assert viewer.take().body == data[70:80]


@pytest.mark.parametrize(
    ("start", "stop", "status"),
    [(20 * MIB, 20 * MIB + 5, 416), (10, 10, 200)],
    ids=["beyond the end", "backwards"],
)
def test_what_is_no_range_is_answered_as_ever(
    video: str, seen: Seen, start: int, stop: int, status: int
) -> None:
    with player(video) as viewer:
        viewer.get(video, 0, 1)
        assert viewer.get(video, start, stop).status == status


def test_conditions_are_part_of_the_question(video: str, seen: Seen) -> None:
    """If-Range of this version keeps its 206, of another its 200; what the client has already stays a 304."""
    with player(video) as viewer:
        tag = viewer.get(video, 0, 1).headers["etag"]
        assert [viewer.get(video, 0, 9, If_Range=tag).status for _ in range(2)] == [206, 206]
        assert [viewer.get(video, 0, 9, If_Range='"x"').status for _ in range(2)] == [200, 200]
        assert [viewer.get(video, 0, 9, If_Match=tag).status for _ in range(2)] == [206, 206]
        assert [viewer.get(video, 0, 9, If_Match='"x"').status for _ in range(2)] == [412, 412]


def test_a_connection_that_is_to_close_closes(video: str, seen: Seen) -> None:
    for _ in range(2):
        with player(video, "closing") as viewer:
            assert viewer.get(video, 0, 9, Connection="close").headers["connection"] == "close"
            assert viewer._client.recv(1) == b""
    assert seen.known == [False, False]


def test_bulk_data_and_instances_are_known_too(archive: Archive, seen: Seen) -> None:
    data = make.instance(Rows=64, Columns=64, PixelData=os.urandom(8192))
    url = doors.stored(archive.root, data)[0]
    bulk = f"{url}/bulkdata/7FE00010"
    with player(url) as viewer:
        for _ in range(2):
            one = viewer.get(url, 100, 5000, Accept="application/dicom")
            part = viewer.get(bulk, 100, 5000, Accept="application/octet-stream")
            assert (one.body, part.body) == (
                data[100:5000],
                whole(bulk, "application/octet-stream")[100:5000],
            )
    assert seen.known == [False, False, True, True]


# What goes wrong on the way


def under_way(archive: Archive) -> float:
    """Requests that are being answered, this one among them."""
    lines = doors.get(f"{archive.url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("reelweb_requests_in_flight"))


def taken(client: socket) -> int:
    """How many bytes come before the connection ends."""
    size = 0
    with suppress(ConnectionError):
        while piece := client.recv(1 << 20):
            size += len(piece)
    return size


@pytest.fixture
def stalled(any_video: str, seen: Seen) -> Iterator[Player]:
    """Who asks for all of a known video, and takes nothing of it."""
    with player(any_video, slow=True) as viewer:
        viewer.get(any_video, 0, 1)
        viewer._client.sendall(viewer.asks(any_video, 0, 8 * MIB))
        time.sleep(0.2)
        assert seen.known == [False, True]
        yield viewer


def test_who_takes_nothing_is_in_flight_and_not_waited_for_for_ever(
    archive: Archive, any_video: str, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = Pour.rest

    async def hasty(self: Pour, read: Read, _stall_s: float) -> None:
        await rest(self, read, 1.0)

    monkeypatch.setattr(Pour, "rest", hasty)
    with player(any_video, slow=True) as viewer:
        viewer.get(any_video, 0, 1)
        before = under_way(archive)
        viewer._client.sendall(viewer.asks(any_video, 0, 8 * MIB))
        time.sleep(0.3)
        assert under_way(archive) == before + 1
        time.sleep(1.2)
        assert under_way(archive) == before
        assert 0 < taken(viewer._client) < 8 * MIB


def test_a_file_that_is_cut_ends_the_connection(archive: Archive, clip: Callable[..., bytes]) -> None:
    """Whether the kernel sends it or it is read."""
    for container in ("mp4", "annexb"):
        url = playable(archive, clip(container=container, times=60))
        size = len(whole(url))
        (key,) = archive.column("select object_key from instance order by id desc limit 1")
        with player(url) as viewer:
            viewer.get(url, 0, 1)
            os.truncate(archive.folder / "storage" / key, size // 2)
            viewer._client.sendall(viewer.asks(url, size // 4, size))
            assert taken(viewer._client) < size - size // 4


def test_a_failure_that_nobody_foresaw_ends_the_connection_too(
    any_video: str, stalled: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(Pour, "_give", broken)  # whether it is sent as it lies or read
    assert 0 < taken(stalled._client) < 8 * MIB


def test_a_stop_lets_what_is_known_end(empty: str, tmp_path: Path, clip: Callable[..., bytes]) -> None:
    with ExitStack() as stack, ThreadPoolExecutor() as thread:
        archive = stack.enter_context(doors.serving(empty, tmp_path / "data"))
        url = playable(archive, clip(clip=Clip(width=1280, height=720, kilobits=20_000), times=2))
        data = whole(url)
        with player(url, slow=True) as viewer:
            viewer.get(url, 0, 1)
            viewer._client.sendall(viewer.asks(url, 0, len(data)))
            time.sleep(0.2)
            answer = thread.submit(viewer.take, 0.01)
            stack.close()
            assert answer.result(20).body == data
            assert viewer._client.recv(1) == b""


# As long as it is true


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., bytes]:
    def made(**elements: Any) -> bytes:
        return make_video.instance(tmp_path / "clip.dcm", **elements).path.read_bytes()

    return made


def test_what_was_deleted_is_gone_at_once(empty: str, tmp_path: Path, clip: Callable[..., bytes]) -> None:
    with doors.serving(empty, tmp_path / "data", allow_delete=True) as archive:
        url = playable(archive, clip())
        with player(url) as viewer:
            assert [viewer.get(url, 0, 9).status for _ in range(3)] == [206] * 3
            assert doors.request("DELETE", url.removesuffix("/rendered")).status_code in {200, 204}
            assert viewer.get(url, 0, 9).status == 404


def test_a_rendition_that_went_is_not_played_from_memory(
    archive: Archive, clip: Callable[..., bytes], seen: Seen
) -> None:
    url = playable(archive, clip())
    with player(url) as viewer:
        assert [viewer.get(url, 0, 9).status for _ in range(2)] == [206] * 2
        # Its own alone: those of other tests would be made anew while they count what is known.
        newest = "(select max(id) from instance)"
        archive.column(f"delete from rendition where kind = 'mp4' and instance_id = {newest} returning id")
        archive.hears()
        seen.known.clear()
        viewer.get(url, 0, 9)
        assert seen.known == [False]


def test_nothing_is_known_for_long(video: str, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that tells of changes may be cut without anybody noticing."""
    with player(video) as viewer:
        viewer.get(video, 0, 9)
        monkeypatch.setattr(again, "monotonic", lambda: time.monotonic() + again.LASTS_S - 5)
        viewer.get(video, 0, 9)
        monkeypatch.setattr(again, "monotonic", lambda: time.monotonic() + again.LASTS_S)
        viewer.get(video, 0, 9)
    assert seen.known == [False, True, False]


def test_an_object_that_is_gone_is_told(
    archive: Archive, clip: Callable[..., bytes], seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has it open: whoever goes the whole way says what is wrong."""
    url = playable(archive, clip())
    with player(url) as viewer:
        assert [viewer.get(url, 5000, 5009).status for _ in range(2)] == [206] * 2
        (key,) = archive.column("select object_key from instance order by id desc limit 1")
        monkeypatch.setattr(OpenFiles, "get", lambda _self, _key: None)
        monkeypatch.setattr(OpenFiles, "put", lambda _self, _key, _file: None)
        assert viewer.get(url, 5000, 5009).status == 206
        (archive.folder / "storage" / key).unlink()
        assert viewer.get(url, 5000, 5009).status == 404
    assert seen.known == [False, True, True, True]


# Who may come in


def test_each_request_shows_its_token(
    empty: str, tmp_path: Path, clip: Callable[..., bytes], seen: Seen
) -> None:
    """What one who may come in has asked for, nobody else is given."""
    tokens = tmp_path / "tokens"
    tokens.write_text(
        f"reader read {sha256(b'secret').hexdigest()}\nall read,write {sha256(b'all').hexdigest()}\n"
    )
    with doors.serving(empty, tmp_path / "data", tokens_file=tokens) as archive:
        headers = {"Authorization": "Bearer all"}
        url = doors.store(archive.root, clip(), **headers).json()
        address = url[doors.STORED]["Value"][0][doors.URL]["Value"][0] + "/rendered"
        while doors.get(address, headers=headers | {"Range": "bytes=0-9"}).status_code != 206:
            time.sleep(0.1)
        with player(address) as viewer:
            for _ in range(3):
                assert viewer.get(address, 0, 9, Authorization="Bearer secret").status == 206
                assert viewer.get(address, 0, 9).status == 401
                assert viewer.get(address, 0, 9, Authorization="Bearer secrets").status == 401
                assert viewer.get(address, 0, 9, Authorization="Bearer secret", Host="evil").status == 421
        assert any(seen.known)


# What is told of it


def test_known_requests_are_counted_as_all_are(archive: Archive, video: str, seen: Seen) -> None:
    def counted() -> tuple[float, float, float]:
        lines = doors.get(f"{archive.url}/metrics").text.splitlines()

        def value(start: str) -> float:
            return next((float(line.split()[-1]) for line in lines if line.startswith(start)), 0.0)

        return (
            value('reelweb_requests_total{method="GET",route="rendered.instance",status="206"}'),
            value('reelweb_response_bytes_total{route="rendered.instance"}'),
            value('reelweb_request_seconds_count{route="rendered.instance"}'),
        )

    with player(video) as viewer:
        viewer.get(video, 0, 1)
        before = counted()
        viewer.get(video, 0, 1000)
        viewer.get(video, 0, 6 * MIB)
        viewer.get(video, 0, 1)  # the one before is over
        after = counted()
    assert seen.known == [False, True, True, True]
    assert tuple(now - then for now, then in zip(after, before, strict=True)) == (3, 1001 + 6 * MIB, 3)


def test_a_connection_that_is_used_stays_open(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ends when it was idle for as long as any may be."""
    made = connection.Protocol.connection_made

    def short(self: connection.Protocol, transport: Any) -> None:
        made(self, transport)
        self.timeout_keep_alive = 1

    monkeypatch.setattr(connection.Protocol, "connection_made", short)
    with player(video) as viewer:
        for _ in range(6):
            assert viewer.get(video, 0, 9).status == 206
            time.sleep(0.4)
        began = time.monotonic()
        assert viewer._client.recv(1) == b""
        assert time.monotonic() - began < 3


def test_of_two_ranges_the_first_one_counts_every_time(video: str, seen: Seen) -> None:
    address = urlsplit(video)
    with socket() as client:
        client.settimeout(30)
        client.connect((address.hostname, address.port))
        for second in (5, 7, 9):
            client.sendall(
                f"GET {address.path} HTTP/1.1\r\nHost: localhost\r\nAccept: video/mp4\r\n"
                f"RANGE: bytes=0-3\r\nRange: bytes={second}-{second + 1}\r\n\r\n".encode()
            )
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(1)
            assert b"content-range: bytes 0-3/" in head
            client.recv(4)
    assert seen.known == [False] * 3


def test_what_is_remembered_is_bounded_by_its_pieces_too(
    video: str, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of very many fragments would be held by each that asks for it."""
    monkeypatch.setattr(Extents, "held", again.PIECES)
    with player(video) as viewer:
        viewer.get(video, 0, 9)
        viewer.get(video, 0, 9)
    assert seen.known == [False, False]
