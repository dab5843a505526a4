"""Whatever a process says is one line for each thing, and quotes no error of a library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, logging
from app import logs
from app.errors import Unavailable
logs.configure("info", "json")
async def fails(): raise ValueError("Geheim")
async def main():
    asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try: await fails()
    except ValueError: logging.getLogger("asyncpg.pool").warning("Failed to restore", exc_info=True)
    logging.getLogger("uvicorn.error").error("Traceback (most recent call last):\\nValueError: Geheim")
    import gc; gc.collect()
    async with asyncio.TaskGroup() as group:
        group.create_task(fails())
with logs.last_words():
    asyncio.run(main())
"""


def test_errors_of_libraries_are_one_line_each() -> None:
    """With their kind and where they passed; and the process that one of them ends says so, with status 1."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    told = {line["event"]: line for line in lines}
    assert set(told) == {"Failed to restore", "Task exception was never retrieved", "ended"}
    assert len(lines) == 3
    assert {line["error"] for line in lines} == {"ValueError"}
    assert told["Failed to restore"]["by"] == "asyncpg.pool"
    assert told["ended"]["at"][-1].endswith(" fails")
    assert "Geheim" not in done.stderr + done.stdout
    assert done.returncode == 1


LINE = """
import structlog
from app import logs
logs.configure("info", {style!r})
log = structlog.get_logger()
log.info("told", control="a\\x1b[2J\\0", plain="a/b", odd='b "c"', none=None, name="M\\u00fcller", raw="\\udc80", number=1.5)
"""


@pytest.mark.parametrize(
    ("style", "told"),
    [
        ("text", r"""told                           control='a\x1b[2J\x00' name=M\xfcller none=None number=1.5 odd='b "c"' plain=a/b"""),
        ("json", r"""{"control": "a\u001b[2J\u0000", "plain": "a/b", "odd": "b \"c\"", "none": null, "name": "M\u00fcller", "raw": "\udc80"""),
    ],
    ids=["text", "json"],
)  # fmt: skip
def test_a_line_can_be_written_wherever_it_goes(style: str, told: str) -> None:
    """To a terminal that knows ASCII only, and with a name in it that is no text."""
    done = subprocess.run(
        [sys.executable, "-c", LINE.format(style=style)],
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONIOENCODING": "ascii:backslashreplace"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip("\n").isprintable()
