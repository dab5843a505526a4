"""Opens the tools, hands them to the doors, closes them in reverse."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette

from app import index, jobs, workers
from app.dicom.scanner import Limits
from app.settings import Settings
from app.storage.local import LocalStorage
from app.tools import Tools
from app.web import access
from app.web.app import create
from app.web.state import State

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # <malloc.h>


def migrate(settings: Settings) -> None:
    """Bring the database's schema to what this version knows."""
    asyncio.run(index.migrate(settings.dsn()))


def serve_web(settings: Settings, fd: int) -> None:
    """Serve HTTP on the listening socket `fd` until SIGTERM; one process of several."""
    _prepare(settings)
    config = uvicorn.Config(
        web(settings),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.shutdown_timeout_s),
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


def run_jobs(settings: Settings) -> None:
    """Make renditions until SIGTERM."""
    _prepare(settings)
    uvloop.run(_jobs(settings))


async def _jobs(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with tools(settings) as opened:
        await jobs.run(opened, stop)


def web(settings: Settings) -> Starlette:
    """The application as it ships; its lifespan opens the tools."""
    policy = _policy(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        async with tools(settings) as opened:
            gc.collect()
            gc.freeze()
            yield {"tools": opened, "policy": policy}

    return create(policy, lifespan)


@asynccontextmanager
async def tools(settings: Settings) -> AsyncIterator[Tools]:
    """Everything an act needs, open while the block lasts."""
    async with (
        index.opened(settings.dsn()) as opened_index,
        LocalStorage(settings.storage_folder()) as storage,
        workers.Workers() as opened_workers,
    ):
        yield Tools(opened_index, storage, opened_workers, Limits(), settings.on_conflict)


def _policy(settings: Settings) -> access.Policy:
    hosts = set(settings.allowed_hosts) or set(access.LOOPBACK_NAMES)
    if settings.public_url:
        hosts.add(access.host_of(settings.public_url))
    tokens = None
    if settings.tokens_file:
        tokens = access.read_tokens(settings.tokens_file.read_text("utf-8"))
    return access.Policy(
        tokens,
        frozenset(host.lower() for host in hosts),
        tuple(settings.cors_origins),
        access.networks(tuple(settings.trusted_proxies)),
        settings.public_url,
    )


def _prepare(settings: Settings) -> None:
    """Log as lines of JSON, and keep large buffers off the heap that malloc would trim again and again."""
    libc = ctypes.CDLL(None)
    for option, mib in ((M_MMAP_THRESHOLD, 16), (M_TRIM_THRESHOLD, 64), (M_TOP_PAD, 4)):
        libc.mallopt(option, mib << 20)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
