"""What the system lets a process have: descriptors and waiting connections, taken in full, told when they are few."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

BACKLOG: Final = 16_384  # asked for; the kernel gives net.core.somaxconn
DESCRIPTORS: Final = 16_384  # one for each viewer of a process, and some for files
WAITING: Final = 4_096
_SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")


def take_all_descriptors() -> None:
    """Raise the soft limit to the hard one: a viewer costs one descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def warnings(somaxconn: Path = _SOMAXCONN) -> list[str]:
    """Which limits will turn viewers away before the server does, one sentence each."""
    told = []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        told.append(
            f"The hard limit of open files (ulimit -Hn) is {hard}: raise it for more than {hard} viewers."
        )
    try:
        waiting = int(somaxconn.read_text("ascii"))
    except (OSError, ValueError):
        return told
    if waiting < WAITING:
        told.append(
            f"net.core.somaxconn is {waiting}: set it to {WAITING} or more, or bursts of viewers are refused."
        )
    return told
