"""A long piece of upkeep as a person or a log sees it: findings as lines, progress as a bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.upkeep.findings import Finding, Report


@contextmanager
def shown(what: str) -> Iterator[Report]:
    """A report whose findings go to the output, and whose progress to a terminal if there is one."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )

    def tell(finding: Finding) -> None:
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()

    with bar:
        task = bar.add_task(what, total=None)
        yield Report(tell, lambda done, total: bar.update(task, completed=done, total=total))


def summary(report: Report) -> str:
    """One sentence at the end."""
    if not report.found:
        return "All is well."
    told = ", ".join(f"{count} {what}" for what, count in sorted(report.found.items()))
    return f"Found: {told}; {report.open} not repaired."
