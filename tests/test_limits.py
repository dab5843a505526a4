"""The system's limits: taken in full, and told where they are too low for many viewers."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from app import limits


def test_a_web_process_takes_all_descriptors_it_may_have() -> None:
    program = (
        "import resource; from app import limits\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)); limits.take_all_descriptors()\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("hard", "waiting", "told"),
    [
        (1024, "4096\n", ["open files (ulimit -Hn) is 1024"]),
        (1_000_000, "128\n", ["net.core.somaxconn is 128"]),
        (resource.RLIM_INFINITY, "65535\n", []),
        (1024, "128\n", ["ulimit -Hn", "somaxconn"]),
        (1_000_000, "", []),
    ],
)
def test_a_limit_that_is_too_low_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard: int, waiting: str, told: list[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (hard, hard))
    (tmp_path / "somaxconn").write_text(waiting, "ascii")
    lines = limits.warnings(tmp_path / "somaxconn")
    assert len(lines) == len(told)
    assert all(part in line and "\n" not in line for part, line in zip(told, lines, strict=True))
