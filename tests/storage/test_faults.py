"""What an object store does to those who trust it: it vanishes, refuses, is slow, breaks off, dies."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.errors import FailureReason, NotFound, Refused, Unavailable
from app.extent import Extent, Extents
from app.storage import keys
from app.storage.object_store import Bucket, ObjectStorage
from app.storage.protocol import put
from app.storage.s3_multipart import Keys
from app.storage.stream import stream
from app.web.extents import ExtentsResponse
from tests import seaweed
from tests.faulty import Faulty
from tests.storages import SIGNER, left, object_storage, unfinished
from tests.web.test_extents import client

MIB = 1 << 20
DATA = os.urandom(7 * MIB)
TLS = Path(__file__).with_name("tls")


@pytest.fixture
async def way(bucket: Bucket) -> AsyncIterator[Faulty]:
    async with Faulty(bucket.endpoint) as way:
        yield way


@pytest.fixture
async def remote(bucket: Bucket, way: Faulty) -> AsyncIterator[ObjectStorage]:
    """The bucket behind a way that can fail; patient for about two seconds."""
    async with object_storage(replace(bucket, endpoint=way.endpoint, timeout_s=1.0, retries=2)) as opened:
        yield opened


@pytest.fixture
async def sound(bucket: Bucket) -> AsyncIterator[ObjectStorage]:
    """The same bucket without faults."""
    async with object_storage(bucket) as opened:
        yield opened


@pytest.mark.parametrize("after", [0, 10, 300, 100_000])
async def test_a_read_that_breaks_off_once_is_whole_all_the_same(
    remote: ObjectStorage, sound: ObjectStorage, way: Faulty, after: int
) -> None:
    key = keys.new()
    await put(sound, key, DATA[:MIB])
    way.cut_after, way.times = after, 1
    assert await remote.read(key, 5, 500_000) == DATA[5:500_005]
    assert way.connections > 1


@pytest.mark.parametrize("after", [0, 300, 100_000])
async def test_a_read_that_breaks_off_again_and_again_is_unavailable(
    remote: ObjectStorage, sound: ObjectStorage, way: Faulty, after: int
) -> None:
    """It ends, and what it read of it is given to nobody."""
    key = keys.new()
    await put(sound, key, DATA)
    way.cut_after = after
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="does not answer"):
            await remote.read(key, 0, 5 * MIB)


async def test_a_stream_that_breaks_off_gave_right_bytes_only(
    remote: ObjectStorage, sound: ObjectStorage, way: Faulty
) -> None:
    key, got = keys.new(), b""
    await put(sound, key, DATA)
    async with aclosing(stream(remote, Extents([Extent(key, 0, len(DATA))]))) as pieces:
        got += await anext(pieces)
        way.cut_after = 50_000
        with pytest.raises(Unavailable):
            got += b"".join([piece async for piece in pieces])
    assert DATA.startswith(got)
    assert 0 < len(got) < len(DATA)


async def test_a_bucket_that_does_not_answer_is_given_up(
    remote: ObjectStorage, sound: ObjectStorage, way: Faulty
) -> None:
    """In bounded time, for reading, asking and being ready."""
    key = keys.new()
    await put(sound, key, DATA[:1000])
    way.delay_s = 60
    async with asyncio.timeout(12):
        for act in (remote.read(key, 0, 10), remote.size(key), remote.check()):
            with pytest.raises(Unavailable):
                await act


async def test_a_slow_bucket_is_waited_for(remote: ObjectStorage, sound: ObjectStorage, way: Faulty) -> None:
    key = keys.new()
    await put(sound, key, DATA[:1000])
    way.delay_s = 0.3
    assert await remote.read(key, 0, 1000) == DATA[:1000]


async def test_a_store_that_is_not_there_is_unavailable(bucket: Bucket) -> None:
    async with object_storage(replace(bucket, endpoint="http://127.0.0.1:1", timeout_s=1, retries=1)) as gone:
        for act in (gone.check(), gone.read("objects/a", 0, 1), put(gone, "objects/a", b"x")):
            with pytest.raises(Unavailable, match="does not answer"):
                await act


async def test_a_bucket_that_refuses_says_so_and_stores_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    async with object_storage(bucket) as refusing:
        for act in (refusing.check(), refusing.read("objects/a", 0, 1)):
            with pytest.raises(Unavailable, match="refuses our credentials"):
                await act
        for size in (10, 7 * MIB):
            with pytest.raises(Refused, match="refuses our credentials") as refused:
                await put(refusing, keys.new(), DATA[:size])
            assert refused.value.reason is FailureReason.OUT_OF_RESOURCES


async def test_a_bucket_that_does_not_exist_is_no_missing_object(bucket: Bucket) -> None:
    """A mistyped bucket is the operator's mistake; no client is told that a study is gone."""
    async with object_storage(replace(bucket, name="another")) as absent:
        for act in (absent.check(), absent.read("objects/a", 0, 1)):
            with pytest.raises(Unavailable, match="no such bucket"):
                await act
        with pytest.raises(Refused, match="no such bucket"):
            await put(absent, keys.new(), b"x")


@pytest.mark.parametrize("after", [0, 1000, 2 * MIB, 6 * MIB])
@pytest.mark.parametrize("size", [1000, 7 * MIB])
async def test_an_upload_whose_connection_breaks_is_whole_or_not_there(
    remote: ObjectStorage, sound: ObjectStorage, way: Faulty, size: int, after: int
) -> None:
    way.cut_uploads_after, way.times = after, 1
    key = keys.new()
    stored = await put(remote, key, DATA[:size])
    assert await sound.read(key, 0, stored.size) == DATA[:size]
    way.times, way.cut_uploads_after = 1 << 30, 100
    with pytest.raises((Unavailable, Refused)):
        await put(remote, keys.new(), DATA[:size])
    assert [entry.key async for entry in sound.list("")] == [key]


async def test_an_answer_that_breaks_off_never_looks_complete(
    remote: ObjectStorage, sound: ObjectStorage, way: Faulty
) -> None:
    """Through HTTP: the client's connection ends before the promised length."""
    key = keys.new()
    await put(sound, key, DATA)

    def answer(request: object) -> ExtentsResponse:
        way.cut_after = 300_000  # enough for the first piece only
        return ExtentsResponse(remote, Extents([Extent(key, 0, len(DATA))]), "video/mp4")

    async with client(answer) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/", timeout=30)


async def test_a_store_that_dies_ends_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SeaweedFS killed between two parts: a clear end, in bounded time."""
    for name, value in seaweed.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with seaweed.running() as server:
        mortal = Bucket(seaweed.BUCKET, "x", server.endpoint, timeout_s=1, retries=1)
        async with object_storage(mortal) as storage:

            async def store() -> None:
                async with storage.upload(keys.new()) as upload:
                    for number in range(200):
                        await upload.write(DATA[:MIB])
                        if number == 40:
                            server.process.kill()

            async with asyncio.timeout(20):
                with pytest.raises(Unavailable):
                    await store()
            with pytest.raises(Unavailable):
                await storage.check()


@pytest.mark.parametrize("ticks", [0, 1, 3, 8, 20, 50, 90])
async def test_an_upload_cancelled_anywhere_leaves_nothing(sound: ObjectStorage, ticks: int) -> None:
    async def store() -> None:
        async with sound.upload(keys.new(), len(DATA)) as upload:
            await upload.write(DATA)

    task = asyncio.create_task(store())
    for _ in range(ticks):
        await asyncio.sleep(0.002)
    task.cancel()
    outcome = await asyncio.gather(task, return_exceptions=True)
    cancelled = isinstance(outcome[0], asyncio.CancelledError)
    assert len(await left(sound)) == (0 if cancelled else 1)
    assert not sound._budget.taken


async def test_what_a_crash_left_is_swept_when_it_is_old(bucket: Bucket) -> None:
    """By the store's own clock, none that may still run; what lies beside our prefix is not ours."""
    other = replace(bucket, prefix=f"{bucket.prefix}-other")
    for place in (bucket, bucket, other):
        writer = ObjectStorage(place, signer=SIGNER).open(keys.new(), 5 * MIB)
        for _ in range(6):
            await writer.write(DATA[:MIB])
        await writer.flush()
    assert len(await unfinished(bucket)) == 3
    assert await swept(bucket, 7 * 86400) == 0
    assert await swept(bucket, -3600) == 2
    assert len(await unfinished(bucket)) == 1
    assert await swept(bucket, -3600) == 0


async def swept(bucket: Bucket, longest_upload_s: float) -> int:
    async with ObjectStorage(bucket, signer=SIGNER, longest_upload_s=longest_upload_s) as storage:
        count = await storage.sweep(-3600)
        assert await storage.sweep(-3600) == 0  # asked a moment ago
        return count


async def test_without_keys_of_our_own_nothing_is_swept(bucket: Bucket) -> None:
    async with ObjectStorage(bucket) as storage:
        assert await storage.sweep(0) == 0


async def test_a_private_authority_is_trusted_when_it_is_named(bucket: Bucket) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(TLS / "server.pem")
    async with Faulty(bucket.endpoint, tls) as way:
        there = replace(bucket, endpoint=way.endpoint, retries=0, timeout_s=2)
        async with object_storage(replace(there, ca_bundle=TLS / "ca.pem")) as storage:
            await put(storage, "objects/a", b"abc")
            assert bytes(await storage.read("objects/a", 0, 3)) == b"abc"
            assert await storage.sweep(0) == 0
        async with object_storage(there) as distrustful:
            with pytest.raises(Unavailable):
                await distrustful.check()


@pytest.mark.parametrize("size", [10, 7 * MIB])
async def test_encryption_is_asked_for_with_every_object(bucket: Bucket, way: Faulty, size: int) -> None:
    encrypting = replace(bucket, endpoint=way.endpoint, sse="aws:kms", kms_key="key-1", retries=0)
    async with object_storage(encrypting) as storage:
        with suppress(Unavailable, Refused):  # this S3 has no such key; what was asked is what matters
            await put(storage, keys.new(), DATA[:size])
    head = bytes(way.sent).lower()
    assert b"x-amz-server-side-encryption: aws:kms\r\n" in head
    assert b"x-amz-server-side-encryption-aws-kms-key-id: key-1\r\n" in head


@pytest.mark.parametrize(("path_style", "line"), [(True, b"/dicom/tests/"), (False, b"/tests/")])
async def test_the_bucket_stands_in_the_path_or_in_the_host(
    bucket: Bucket, way: Faulty, line: bytes, *, path_style: bool
) -> None:
    named = replace(bucket, endpoint=way.endpoint, path_style=path_style, retries=0, timeout_s=2)
    async with object_storage(named) as storage:
        try:
            await storage.check()
        except Unavailable:
            assert not path_style
    if path_style:
        assert bytes(way.sent).startswith(b"GET " + line)
    assert named.url().startswith("http://localhost" if path_style else "http://dicom.localhost")


def test_keys_of_a_role_are_not_invented() -> None:
    assert Keys.of({"AWS_ACCESS_KEY_ID": "a"}) is None
    assert Keys.of({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}) == Keys("a", "b")


async def test_a_missing_object_is_not_found(sound: ObjectStorage) -> None:
    for act in (sound.read(keys.new(), 0, 1), sound.size(keys.new())):
        with pytest.raises(NotFound):
            await act
