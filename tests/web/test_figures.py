"""What Prometheus is told: every request once, of all processes, whatever was asked for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.web import figures
from tests import make
from tests.web import doors
from tests.web.doors import Archive


def test_requests_are_counted_by_what_they_ask(archive: Archive) -> None:
    """Few values, however many addresses there are; what stores and what searches are told apart."""
    doors.stored(archive.root, make.instance())
    for path in ("/studies", "/series?x=1", "/studies/1.2.3/metadata", "/Doe^Jane", "/studies/Doe^Jane"):
        doors.get(archive.root + path)
    answer = doors.get(f"{archive.url}/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE_LATEST
    for sample in (
        'reelweb_requests_total{method="GET",route="qido.studies",status="200"}',
        'reelweb_requests_total{method="POST",route="stow.studies",status="200"}',
        'reelweb_requests_total{method="GET",route="metadata.metadata",status="404"}',
        'reelweb_requests_total{method="GET",route="none",status="404"}',
        'reelweb_request_seconds_count{route="qido.series"}',
        'reelweb_response_bytes_total{route="qido.studies"}',
        "reelweb_requests_in_flight",
    ):
        assert sample in answer.text
    assert "Doe" not in answer.text


METRICS_OF_ALL = """
import asyncio, sys
from starlette.requests import Request
from app.web import figures
for _ in range(int(sys.argv[1])):
    figures.add("GET", "qido.studies", 200, float(sys.argv[2]), 10)
scope = {"type": "http", "headers": [], "method": "GET", "path": "/metrics"}
print(asyncio.run(figures.metrics(Request(scope))).body.decode())
"""


def test_the_figures_of_all_processes_are_added(tmp_path: Path) -> None:
    told = ""
    for count, seconds in (("2", "0.01"), ("3", "0.003")):
        told = subprocess.run(
            [sys.executable, "-c", METRICS_OF_ALL, count, seconds],
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    for figure in (
        'reelweb_requests_total{method="GET",route="qido.studies",status="200"} 5.0',
        'reelweb_response_bytes_total{route="qido.studies"} 50.0',
        'reelweb_request_seconds_bucket{le="0.005",route="qido.studies"} 3.0',
        'reelweb_request_seconds_bucket{le="0.01",route="qido.studies"} 5.0',
        'reelweb_request_seconds_bucket{le="+Inf",route="qido.studies"} 5.0',
        'reelweb_request_seconds_sum{route="qido.studies"} 0.029',
    ):
        assert f"\n{figure}" in told


def counted(route: str) -> bool:
    """Whether other processes can see a request of this route."""
    return f'route="{route}"'.encode() in generate_latest()


async def test_what_was_added_up_is_seen_within_seconds_and_at_the_end() -> None:
    """Whether or not this process is ever asked for its figures."""
    async with figures.written():
        figures.add("GET", "test.early", 200, 0.1, 1)
        async with asyncio.timeout(10 * figures.WRITTEN_S):
            while not counted("test.early"):  # noqa: ASYNC110 - what is awaited is another task's doing
                await asyncio.sleep(0.05)
        figures.add("GET", "test.late", 200, 0.1, 1)
    assert counted("test.late")
