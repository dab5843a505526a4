"""Children that cannot outlive us: spawned through the trampoline, each in a session of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from app.embedded import trampoline

_TRAMPOLINE = Path(trampoline.__file__)


async def spawn(
    command: Sequence[str | Path],
    *,
    dies_by: signal.Signals = signal.SIGKILL,
    identity: str = "-",
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Process:
    """Start `command`; when we die it gets `dies_by`.

    The signal comes when the *thread* that forked ends (prctl(2)): call this from the main thread only.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", _TRAMPOLINE, str(os.getpid()), str(int(dies_by)), identity),
        *command,
        stdin=DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        pass_fds=pass_fds,
        env=env,
        cwd=cwd,
    )


async def end(process: Process, *steps: tuple[signal.Signals, float]) -> None:
    """Send each signal in turn and wait its seconds for the end; then, or when cancelled, SIGKILL."""
    try:
        for number, patience_s in steps:
            if process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), patience_s)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def end_group(leader: int) -> None:
    """End what a dead child left behind in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def end_with_parent(by: signal.Signals) -> None:
    """Have the kernel send us `by` when whoever started us dies."""
    ctypes.CDLL(None).prctl(trampoline.PR_SET_PDEATHSIG, int(by))
