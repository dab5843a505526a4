"""`reelweb import` as it is typed: beside a server, killed in the middle, stopped, and what it says at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.index.connection import Connection
from tests import make
from tests.importing import study
from tests.serving import ROOT, command, serving, until
from tests.upkeep_tools import files


@contextmanager
def importing(data_dir: Path, database: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`reelweb import` that runs while the block does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REELWEB_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "REELWEB_DATA_DIR": str(data_dir),
        "REELWEB_DATABASE_URL": database,
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "app", "import", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with process:
            yield process
    finally:
        process.kill()


async def contents(sql: Connection, data_dir: Path) -> list[bytes]:
    keys = await sql.fetch("select object_key from instance")
    return sorted((data_dir / "storage" / key[0]).read_bytes() for key in keys)


async def test_killed_in_the_middle_a_second_run_brings_in_the_rest(
    database: str, sql: Connection, tmp_path: Path
) -> None:
    """Bit for bit, each once; the archive is well, and no file lies half in it."""
    made = study(tmp_path / "in", 150)
    data = tmp_path / "data"
    with importing(data, database, str(tmp_path / "in")) as first:
        until(lambda: (data / "storage").is_dir() and len(files(data / "storage", "objects")) > 30)
        first.send_signal(signal.SIGKILL)
    assert 0 < await sql.fetchval("select count(*) from instance") < 150
    second = command(data, "import", str(tmp_path / "in"), database_url=database)
    assert second.returncode == 0, second.stderr
    assert await contents(sql, data) == sorted(made.values())
    verified = command(data, "verify", database_url=database)
    assert "missing" not in verified.stdout
    assert "different" not in verified.stdout
    third = command(data, "import", str(tmp_path / "in"), database_url=database)
    assert "0 stored, 150 there already, 0 skipped, 0 refused." in third.stderr


async def test_ctrl_c_ends_it_in_order(database: str, sql: Connection, tmp_path: Path) -> None:
    """What is on its way arrives, no more is begun, and it says how to go on."""
    study(tmp_path / "in", 400)
    data = tmp_path / "data"
    with importing(data, database, str(tmp_path / "in")) as process:
        until(lambda: (data / "storage").is_dir() and len(files(data / "storage", "objects")) > 50)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert told.endswith("reelweb: Stopped; run it again to go on.\n")
    count = await sql.fetchval("select count(*) from instance")
    assert 0 < count < 400
    assert f"reelweb: {count} stored, 0 there already, 0 skipped, 0 refused." in told
    assert len(files(data / "storage", "objects")) == count


@pytest.mark.timeout(240)
def test_it_works_while_a_server_runs_and_before_there_is_one(tmp_path: Path) -> None:
    """The first command of all may be an import; the server serves what it brought in, at once."""
    data = tmp_path / "data"
    study(tmp_path / "first", 3)
    before = command(data, "import", str(tmp_path / "first"))
    assert before.returncode == 0, before.stderr
    study(tmp_path / "second", 4)
    with serving(data) as server:
        while_it_runs = command(data, "import", str(tmp_path / "second"))
        assert while_it_runs.returncode == 0, while_it_runs.stderr
        found = httpx.get(f"{server.url}/dicom-web/instances", timeout=30).json()
        assert len(found) == 7
        sent = command(
            tmp_path / "other", "import", str(tmp_path / "second"), "--url", f"{server.url}/dicom-web"
        )
        assert sent.returncode == 0, sent.stderr
        assert not (tmp_path / "other" / "storage").exists()


def test_what_is_refused_is_counted_and_named_on_demand_only(database: str, tmp_path: Path) -> None:
    """Paths hold names of patients: they go to whoever asks for them, and to no log."""
    folder = tmp_path / "DOE^JANE"
    study(folder, 2)
    (folder / "bad.dcm").write_bytes(make.instance(PatientName="Roe^Richard")[:-3])
    quiet = command(tmp_path / "data", "import", str(folder), database_url=database)
    assert quiet.returncode == 1
    assert quiet.stderr == (
        "reelweb: 2 stored, 0 there already, 0 skipped, 1 refused.\n"
        "reelweb:   refused 1: The file is truncated: it ends inside an element or a sequence.\n"
    )
    assert not quiet.stdout
    told = command(tmp_path / "data", "import", "--paths", str(folder), database_url=database)
    assert told.stdout.startswith(f"{folder}/bad.dcm\tThe file is truncated")
    assert "DOE" not in told.stderr
    assert "Roe" not in quiet.stderr + told.stderr + told.stdout


def test_a_drop_folder_that_is_left_ends_well(database: str, tmp_path: Path) -> None:
    """Ctrl-C is how one ends a watch: status 0 when nothing was refused."""
    study(tmp_path / "drop", 3)
    data = tmp_path / "data"
    with importing(
        data,
        database,
        "--watch",
        "--rest",
        "0.1",
        "--move-to",
        str(tmp_path / "done"),
        str(tmp_path / "drop"),
    ) as process:
        until(lambda: not [path for path in (tmp_path / "drop").rglob("*") if path.is_file()])
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert len([path for path in (tmp_path / "done").rglob("*") if path.is_file()]) == 3


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--url", "nonsense", "."], "--url must be http"),
        (["--remove", "--move-to", "there", "."], "contradict"),
    ],
    ids=["url", "aside"],
)
def test_what_cannot_work_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.dcm").write_bytes(make.instance())
    ended = command(tmp_path / "data", "import", *arguments)
    assert ended.returncode in {1, 2}
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    ended = command(tmp_path / "data", "import", str(tmp_path), database_url="postgresql://127.0.0.1:9/none")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
