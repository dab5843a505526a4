"""Opens the tools, hands them to the doors, closes them in reverse."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import uvicorn
import uvloop
from starlette.applications import Starlette

from app import index, jobs, limits, logs, tokens
from app.dicom.scanner import Limits
from app.settings import Settings
from app.storage import keys
from app.storage.local import LocalStorage
from app.storage.object_store import DEFAULT_REGION, Bucket, ObjectStorage
from app.storage.protocol import Storage, put
from app.storage.room import Room
from app.storage.s3_multipart import Keys
from app.storage.spool import Spools
from app.tools import Tools
from app.upkeep import sweep
from app.web import access, ahead, connection, figures
from app.web.again import Again
from app.web.app import create
from app.web.places import Uploads
from app.web.state import State
from app.workers import Workers

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # <malloc.h>
KEEP_ALIVE_S = 75


def serve_web(settings: Settings, fd: int) -> None:
    """Serve HTTP on the listening socket `fd` until SIGTERM; one process of several."""
    _prepare(settings)
    limits.take_all_descriptors()
    failures: list[Exception] = []
    config = uvicorn.Config(
        web(settings, failures.append),
        loop="uvloop",
        http=connection.Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        backlog=limits.BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.shutdown_timeout_s),
    )
    server = uvicorn.Server(config)
    with logs.last_words():
        with suppress(SystemExit):  # of a lifespan that failed, without the reason
            server.run(sockets=[socket.socket(fileno=fd)])
        for failure in failures:
            raise failure
        if not server.started:
            sys.exit(1)


def run_jobs(settings: Settings) -> None:
    """Make renditions until SIGTERM."""
    _prepare(settings)
    with logs.last_words():
        uvloop.run(_jobs(settings))


async def _jobs(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with tools(settings) as opened:
        knobs = jobs.Knobs(sweep=sweep.Knobs(grace_s=settings.grace_s, quota=settings.rendition_quota))
        await jobs.run(opened, stop=stop, knobs=knobs)


async def upkeep(
    settings: Settings, dsn: str, work: Callable[[Tools], Awaitable[None]], *, rebuilds: bool = False
) -> None:
    """Do one piece of upkeep over this database."""
    _prepare(settings)
    await index.migrate(dsn)
    async with tools(settings.model_copy(update={"database_url": dsn}), rebuilds=rebuilds) as opened:
        await work(opened)


def web(settings: Settings, failed: Callable[[Exception], None] = lambda _: None) -> Starlette:
    """The application as it ships; its lifespan opens the tools, and tells `failed` why they cannot be opened."""
    policy = _policy(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        try:
            async with tools(settings) as opened, figures.written():
                opened.index.changes.start()
                gc.collect()
                gc.freeze()  # what lives as long as the process is never looked at again
                yield {
                    "tools": opened,
                    "policy": policy,
                    "uploads": Uploads(settings.max_uploads),
                    "room": ahead.Room(settings.parts_ahead),
                    "again": Again(opened.index.changes, opened.storage, policy.write_timeout_s),
                }
        except Exception as error:
            failed(error)
            raise

    return create(policy, lifespan)


@asynccontextmanager
async def tools(settings: Settings, *, rebuilds: bool = False) -> AsyncIterator[Tools]:
    """Everything an act needs, open while the block lasts; `rebuilds` opens an index that is not whole."""
    knobs = index.Knobs(
        readers=settings.pool_size,
        acquire_timeout_s=settings.acquire_timeout_s,
        statement_timeout_s=settings.statement_timeout_s,
        rebuilds=rebuilds,
        replaces=settings.on_conflict == "replace",
    )
    async with (
        _storage(settings) as storage,
        index.opened(_dsn(settings), keys.new, knobs, _journal(storage)) as opened,
        Workers(settings.pixel_threads) as workers,
    ):
        yield Tools(
            opened,
            storage,
            workers,
            _limits(settings),
            settings.on_conflict,
            settings.max_instance_bytes,
            settings.rendition_wait_s,
            Spools(settings.data_dir / "spool", settings.upload_spool_bytes, Room(settings.disk_reserve)),
        )


def _journal(storage: Storage) -> index.Journal:
    return index.Journal(keys.record, partial(put, storage))


def _storage(settings: Settings) -> LocalStorage | ObjectStorage:
    if settings.storage_bucket is None:
        threads = settings.storage_threads
        return LocalStorage(
            settings.storage_folder, writers=threads, readers=threads, reserve=settings.disk_reserve
        )
    name, prefix = settings.storage_bucket
    endpoint, region = settings.s3_endpoint or "", settings.s3_region or os.environ.get("AWS_REGION", "")
    bucket = Bucket(
        name,
        prefix,
        endpoint,
        region or os.environ.get("AWS_DEFAULT_REGION", DEFAULT_REGION),
        bool(endpoint) if settings.s3_path_style is None else settings.s3_path_style,
        settings.s3_ca_bundle,
        settings.s3_sse or "",
        settings.s3_sse_kms_key_id or "",
        settings.s3_timeout_s,
    )
    return ObjectStorage(bucket, signer=Keys.of(os.environ), budget=settings.s3_upload_memory)


def _limits(settings: Settings) -> Limits:
    return Limits(
        header_bytes=settings.scan_header_bytes,
        elements=settings.scan_elements,
        depth=settings.scan_depth,
        value_bytes=settings.scan_value_bytes,
        bulk_threshold=settings.bulk_threshold,
        meta_bytes=settings.scan_meta_bytes,
        metadata_bytes=settings.upload_metadata_bytes,
        normalise=True,
    )


def _policy(settings: Settings) -> access.Policy:
    hosts = set(settings.allowed_hosts) or set(access.LOOPBACK_NAMES)
    if settings.public_url:
        hosts.add(access.host_of(settings.public_url))
    known = None
    if settings.tokens_file:
        known = tokens.parse(settings.tokens_file.read_text("utf-8"))
    return access.Policy(
        known,
        frozenset(host.lower() for host in hosts),
        settings.cors_origins,
        access.networks(settings.trusted_proxies),
        settings.public_url,
        settings.upload_idle_timeout_s,
        settings.write_timeout_s,
        settings.allow_delete,
        settings.upload_min_rate,
    )


def _dsn(settings: Settings) -> str:
    assert settings.database_url, "the supervisor tells its children where the database is"
    return settings.database_url


def _prepare(settings: Settings) -> None:
    """Keep large buffers off the heap, which malloc would trim and grow again and again; and log."""
    libc = ctypes.CDLL(None)
    for option, mib in ((M_MMAP_THRESHOLD, 16), (M_TRIM_THRESHOLD, 64), (M_TOP_PAD, 4)):
        libc.mallopt(option, mib << 20)
    logs.configure(settings.log_level, settings.log_format)
