"""Files imported into a new archive beside `cp -r` and sync of the same files: files/s, MB/s, CPU, peak RSS.

python benchmarks/importing.py [FOLDER]      # makes 2,000 CT files of 0.5 MB without one
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.serving import MIB, folder
from tests import make
from tests.serving import ROOT

FILES = int(os.environ.get("REELWEB_BENCH_FILES", "2000"))
ROUNDS = 3


@dataclass(frozen=True)
class Taken:
    """What one run took."""

    seconds: float
    cpu_s: float = 0
    peak: int = 0


def made(where: Path) -> Path:
    """CT images of one study, with pixels that no disk makes smaller."""
    where.mkdir()
    pixels = random.Random(1).randbytes(600_000)
    for number in range(FILES):
        start = number % 30_000 * 2
        content = make.instance(
            Rows=512, Columns=512, StudyInstanceUID="1.2", PixelData=pixels[start : start + 524_288]
        )
        (where / f"{number:05}.dcm").write_bytes(content)
    return where


def copied(source: Path, target: Path) -> Taken:
    began = time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    files = [path for path in target.rglob("*") if path.is_file()]
    for at in range(0, len(files), 500):
        subprocess.run(["sync", *files[at : at + 500]], check=True)
    return Taken(time.perf_counter() - began)


def imported(source: Path, data: Path) -> Taken:
    """From the first file to the last acknowledgement, and the database's start and end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "REELWEB_DATA_DIR": str(data)}
    command = [sys.executable, "-P", "-m", "app", "import", str(source)]
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        cpu_s, peak, seen = 0.0, 0, psutil.Process(process.pid)
        while process.poll() is None:
            try:
                times = seen.cpu_times()
                cpu_s, peak = times.user + times.system, max(peak, seen.memory_info().rss)
            except (psutil.Error, OSError):
                break
            time.sleep(0.05)
        _, told = process.communicate()
    assert process.returncode == 0, told
    return Taken(time.perf_counter() - began, cpu_s, peak)


def main() -> None:
    with folder() as here:
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else made(here / "in")
        files = [path for path in source.rglob("*") if path.is_file()]
        count, size = len(files), sum(path.stat().st_size for path in files)
        nothing = here / "none"
        nothing.mkdir()
        copies, imports = [], []
        for number in range(ROUNDS):
            os.sync()
            copies.append(copied(source, here / f"copy-{number}"))
            empty = imported(nothing, here / f"empty-{number}")
            whole = imported(source, here / f"data-{number}")
            imports.append(Taken(whole.seconds - empty.seconds, whole.cpu_s - empty.cpu_s, whole.peak))
        again = imported(source, here / "data-0")
        print(
            f"{count} files, {size / count / 1e6:.2f} MB each, medians of {ROUNDS}; an import of nothing is subtracted"
        )
        for name, some in (("cp -r and sync", copies), ("reelweb import", imports)):
            took = statistics.median(one.seconds for one in some)
            print(f"{name:16} {took:6.1f} s {count / took:7.0f} files/s {size / took / 1e6:6.0f} MB/s")
        cpu_s = statistics.median(one.cpu_s for one in imports)
        print(
            f"CPU of the import (database aside) {cpu_s / count * 1e3:.2f} ms a file, peak RSS {max(one.peak for one in imports) / MIB:.0f} MiB"
        )
        print(f"the same again: {again.seconds:.1f} s with the database's start, CPU {again.cpu_s:.1f} s")


if __name__ == "__main__":
    main()
