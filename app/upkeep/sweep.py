"""The sweeper: removes what nobody points at, a grace after nobody did; it lists no storage (design 4).

Every step can be killed and begun again: an object goes first, then the row that says it is to go.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Counter as Metric

from app.errors import ReelwebError
from app.index import sweeping
from app.index.connection import Connection
from app.tools import Tools

log = structlog.get_logger("reelweb.sweep")

SWEPT: Final = Metric("reelweb_swept", "What the sweeper removed or made good", ["what"])
_STALE_S: Final = 3600  # an unfinished upload that was not written to for so long belongs to nobody
_LATE_S: Final = 30  # a record that is not kept by then belongs to a process that died


@dataclass(frozen=True, slots=True)
class Knobs:
    """How often, how old, how much."""

    pause_s: float = 60
    grace_s: float = 86400
    quota: int = 50 << 30


async def run(tools: Tools, knobs: Knobs, stop: asyncio.Event) -> None:
    """Sweep again and again until `stop`."""
    while not stop.is_set():
        try:
            await once(tools, knobs)
        except ReelwebError as away:
            log.warning("sweep.away", why=str(away))
        except Exception as error:  # noqa: BLE001 - the top of a worker: the next turn may do better
            log.error("sweep.failed", why=type(error).__name__)  # noqa: TRY400 - a text may quote a value
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), knobs.pause_s)


async def once(tools: Tools, knobs: Knobs) -> Counter[str]:
    """One round; what was done how often, nothing while another process sweeps."""
    done: Counter[str] = Counter()
    async with sweeping.turn(tools.index) as connection:
        if connection is None:
            return done
        journal = tools.index.journal
        done["record"] = await journal.catch_up(connection, min(_LATE_S, knobs.grace_s))
        done["upload"] = await sweeping.dead(connection, knobs.grace_s)
        done["metadata"] = await sweeping.old_metadata(connection)
        done["rendition"] = await _unused(connection, knobs.quota)
        done["object"] = await _due(tools, connection, knobs.grace_s)
        done["merged record"] = await journal.merge(connection, tools.storage.delete)
    done["temporary file"] = await tools.storage.sweep(_STALE_S)
    for what, count in done.items():
        SWEPT.labels(what).inc(count)
    if told := {what.replace(" ", "_"): count for what, count in done.items() if count}:
        log.info("swept", **told)
    return done


async def _unused(connection: Connection, quota: int) -> int:
    over = await sweeping.unused(connection, quota)
    for one in over:
        await sweeping.evict(connection, one)
    return len(over)


async def _due(tools: Tools, connection: Connection, grace_s: float) -> int:
    count = 0
    while keys := await sweeping.due(connection, grace_s):
        for key in keys:
            await tools.storage.delete(key)
        await sweeping.forget(connection, keys)
        count += len(keys)
    return count
