"""The child: `python -P -S -m app.video.inside TASK PARENT MEMORY CPU DEMUXER LENGTH [PICTURES/S]`.

It asks for pieces of the stream on its output and gets them on its input. Once the libraries are loaded it gives up
the right to open files and sockets, so that no stream, whatever it names, has anything opened.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from fractions import Fraction
from importlib import import_module
from typing import Final

from app.video.inside import FAILURE, Reason
from app.video.inside.stream import Impossible, Source, tell

TASKS: Final = {
    "poster": ("first_picture", "make"),
    "remux": ("remux", "make"),
    "probe": ("probe", "make"),
    "look": ("probe", "look"),
}
"""Where each is done; no other module is loaded."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_NICENESS: Final = 10


def main() -> None:
    """Read the command line, bind ourselves, and answer with a product or why there is none."""
    task, parent, memory, cpu_s, demuxer, length, *pace = sys.argv[1:]
    module, name = TASKS[task]
    make = getattr(import_module(f"app.video.inside.{module}"), name)
    _bind(int(parent), int(memory), int(cpu_s))
    try:
        make(Source(demuxer, int(length), *map(Fraction, pace)))
    except MemoryError:
        tell(FAILURE, Reason.MEMORY)
    except Impossible as why:
        tell(FAILURE, why.reason)
    except Exception:  # noqa: BLE001 - whatever a stranger's stream can bring about: there is nothing in it
        tell(FAILURE, Reason.NOTHING)


def _bind(parent: int, memory: int, cpu_s: int) -> None:
    """Die with the parent, open nothing more, and use so much memory and time."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask to die with it
        sys.exit(1)
    os.nice(_NICENESS)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # first SIGXCPU, which tells why


if __name__ == "__main__":
    main()
