"""The object store: immutable objects under a prefix of one S3 bucket, through obstore."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from app.errors import FailureReason, NotFound, Refused, Unavailable
from app.storage import keys
from app.storage.object_upload import Budget, ObjectUpload
from app.storage.protocol import SHORTER, Entry, Pieces
from app.storage.s3_multipart import Keys, Multipart

if TYPE_CHECKING:
    from obstore import AsyncWritableFile
    from obstore.store import ClientConfig, RetryConfig, S3Config

T = TypeVar("T")
DEFAULT_REGION: Final = "us-east-1"
SWEEP_EVERY_S: Final = 6 * 3600.0
_PAGE: Final = 1000
_STATUS: Final = re.compile(r"status code: (\d{3})")
_BEYOND: Final = " (416)"
_NO_BUCKET: Final = "NoSuchBucket"
_PROBE: Final = "objects/none"  # a key that is never taken
_PART_TIMEOUT: Final = timedelta(minutes=5)
_REFUSED: Final = (PermissionDeniedError, UnauthenticatedError)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the objects are and how they are reached; credentials come from the environment (AWS_…)."""

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    path_style: bool = True
    ca_bundle: Path | None = None
    sse: str = ""
    kms_key: str = ""
    timeout_s: float = 20.0
    retries: int = 4

    def url(self) -> str:
        """Of the bucket itself."""
        endpoint = self.endpoint or f"https://s3.{self.region or DEFAULT_REGION}.amazonaws.com"
        if self.path_style:
            return f"{endpoint.rstrip('/')}/{self.name}"
        host = urlsplit(endpoint)
        return host._replace(netloc=f"{self.name}.{host.netloc}").geturl()


class ObjectStorage:
    """`async with ObjectStorage(bucket) as storage`: objects below the bucket's prefix."""

    files: Final = None

    def __init__(
        self,
        bucket: Bucket,
        *,
        signer: Keys | None = None,
        budget: int = 256 << 20,
        hashers: int = 2,
        longest_upload_s: float = 7 * 86400,
    ) -> None:
        self.pieces: Final = Pieces(256 << 10, 4 << 20, together=64 << 20, ahead=True)
        self._bucket, self._signer = bucket, signer
        self._longest_upload_s, self._next_sweep = longest_upload_s, 0.0
        self._budget = Budget(budget)
        self._hashers = ThreadPoolExecutor(hashers, "storage-hash")
        self._reader = _store(bucket, timedelta(seconds=bucket.timeout_s))
        self._writer = _store(bucket, _PART_TIMEOUT)  # the time of a part, which may be large

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._hashers.shutdown)

    def upload(self, key: str, expected: int | None = None) -> ObjectUpload:
        """An upload; small objects are one request."""
        return ObjectUpload(keys.checked(key), self, self._budget, self._hashers, expected)

    async def admit(self) -> None:
        """A bucket has room."""

    async def read(self, key: str, offset: int, length: int) -> memoryview:
        """These bytes, in one request."""
        if not length:
            return memoryview(b"")
        with _reasons():
            async with asyncio.timeout(self._patience_s):
                got = await obstore.get_range_async(
                    self._reader, keys.checked(key), start=offset, length=length
                )
        if len(got) != length:
            raise Unavailable(SHORTER)
        return memoryview(got)

    async def size(self, key: str) -> int:
        """The object's length."""
        with _reasons():
            async with asyncio.timeout(self._patience_s):
                return (await obstore.head_async(self._reader, keys.checked(key)))["size"]

    async def delete(self, key: str) -> None:
        """Remove the object."""
        with suppress(NotFound), _reasons():
            await obstore.delete_async(self._reader, keys.checked(key))

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        """Every object whose key starts so, ordered by key."""
        folder = keys.checked_prefix(prefix).rpartition("/")[0]  # obstore knows whole names only
        with _reasons():
            async for page in obstore.list(self._reader, folder or None, chunk_size=_PAGE):
                for meta in page:
                    if meta["path"].startswith(prefix):
                        yield Entry(meta["path"], meta["size"])

    async def check(self) -> str:
        """Raise `Unavailable` when the bucket does not answer."""
        with suppress(NotFound):
            await self.read(_PROBE, 0, 1)
        return ""

    async def sweep(self, age_s: float) -> int:
        """Abort multipart uploads of ours that were begun so long ago and never ended.

        S3 knows only when an upload was begun, and a large one runs for hours: none is swept before the
        longest one would have ended. Asking costs, so it is asked now and then.
        """
        now = time.monotonic()
        # a role's credentials are obstore's secret: such a bucket needs a lifecycle rule
        if self._signer is None or now < self._next_sweep:
            return 0
        self._next_sweep = now + SWEEP_EVERY_S
        age = timedelta(seconds=max(age_s, self._longest_upload_s))
        with _reasons():
            return await asyncio.to_thread(self._sweep, self._signer, age)

    def _sweep(self, signer: Keys, age: timedelta) -> int:
        bucket = self._bucket
        begins = f"{bucket.prefix}/" if bucket.prefix else ""
        uploads = Multipart(bucket.url(), bucket.region or DEFAULT_REGION, signer, begins, bucket.ca_bundle)
        stale = [upload for upload in uploads.unfinished() if upload.age >= age]
        for upload in stale:
            uploads.abort(upload)
        return len(stale)

    async def put(self, key: str, data: bytes) -> None:
        """Store a small object at once."""
        await self.writing(obstore.put_async(self._writer, key, data, use_multipart=False))

    def open(self, key: str, part: int) -> AsyncWritableFile:
        """Begin a large object; its parts go out one at a time."""
        return obstore.open_writer_async(self._writer, key, buffer_size=part, max_concurrency=1)

    async def writing(self, act: Awaitable[T]) -> T:
        """Await what writes; what the store refuses is out of resources."""
        with _refusals():
            return await act

    async def discard(self, key: str) -> None:
        """Remove what an attempt to complete may have left."""
        with suppress(Unavailable):
            await self.delete(key)

    @property
    def _patience_s(self) -> float:
        return 2 * self._bucket.timeout_s


def _store(bucket: Bucket, timeout: timedelta) -> S3Store:
    config: S3Config = {"virtual_hosted_style_request": not bucket.path_style}
    if bucket.endpoint:
        # with the bucket in the host's name where it is asked for: obstore takes the endpoint as it is
        config["endpoint"] = bucket.endpoint if bucket.path_style else bucket.url()
    if bucket.region:
        config["region"] = bucket.region
    if bucket.sse:
        config["server_side_encryption"] = bucket.sse
    if bucket.kms_key:
        config["sse_kms_key_id"] = bucket.kms_key
    client: ClientConfig = {
        "timeout": timeout,
        "connect_timeout": timedelta(seconds=5),
        "allow_http": bucket.endpoint.startswith("http://"),
        "user_agent": "reelweb",
    }
    if bucket.ca_bundle:
        client["root_certificate"] = bucket.ca_bundle.read_bytes()
    retry: RetryConfig = {
        "max_retries": bucket.retries,
        "retry_timeout": timedelta(seconds=2 * bucket.timeout_s),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=3),
            "base": 2,
        },
    }
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options=client,
        retry_config=retry,
    )


@contextmanager
def _reasons() -> Iterator[None]:
    """What obstore raises in our words: its own name the address, and may quote what the store said."""
    try:
        yield
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise Unavailable("The object store has no such bucket.") from error
        raise NotFound("A stored object is gone.") from error
    except _REFUSED as error:
        raise Unavailable("The object store refuses our credentials.") from error
    except (BaseError, OSError) as error:  # TimeoutError is an OSError
        told = _status(error)
        if told == _BEYOND:
            raise Unavailable(SHORTER) from error
        raise Unavailable(f"The object store does not answer{told}.") from error


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except _REFUSED as error:
        raise Refused("The object store refuses our credentials.", FailureReason.OUT_OF_RESOURCES) from error
    except FileNotFoundError as error:
        raise Refused("The object store has no such bucket.", FailureReason.OUT_OF_RESOURCES) from error
    except (BaseError, OSError) as error:
        told = _status(error)
        if told.startswith((" (4", " (507")):
            raise Refused(
                f"The object store does not take the object{told}.", FailureReason.OUT_OF_RESOURCES
            ) from error
        raise Unavailable(f"The object store does not answer{told}.") from error


def _status(error: BaseException) -> str:
    found = _STATUS.search(str(error))
    return f" ({found[1]})" if found else ""
