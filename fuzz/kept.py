"""The part that all targets share: what was found before, seeds that the tests make, and libFuzzer's command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import atheris

Seeds = Callable[[], Iterator[tuple[str, bytes]]]


def plant(kept: Path, folder: Path, seeds: Seeds) -> None:
    """The kept corpus, and the files that the tests make."""
    folder.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        with ZipFile(kept) as archive:
            archive.extractall(folder)
    for name, data in seeds():
        (folder / f"seed-{name}").write_bytes(data)


def keep(kept: Path, folder: Path) -> None:
    """One archive of what was found, the same bytes for the same files."""
    with ZipFile(kept, "w", ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.writestr(ZipInfo(path.name), path.read_bytes(), ZIP_DEFLATED)


def run(one: Callable[[bytes], None], kept: Path, seeds: Seeds) -> None:
    """Seeds first, then libFuzzer; or `--keep FOLDER`, and FOLDER becomes the kept corpus."""
    if sys.argv[1:2] == ["--keep"]:
        keep(kept, Path(sys.argv[2]))
        return
    planted = kept.parent / "seeds" / kept.stem
    plant(kept, planted, seeds)
    for folder in sys.argv[1:]:
        if not folder.startswith("-"):
            Path(folder).mkdir(parents=True, exist_ok=True)
    atheris.Setup([*sys.argv, str(planted)], one)
    atheris.Fuzz()
