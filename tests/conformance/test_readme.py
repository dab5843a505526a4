"""The README's shell lines are run as they are written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:8080"
PYTHON = ".venv/bin/python"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_every_block_works_when_pasted(server: str, tmp_path: Path) -> None:
    """One after the other in one folder; only the server's address and the interpreter are other ones here."""
    assert BLOCKS, "the README has no sh block"
    assert shutil.which("curl"), "curl is not installed"
    here = server.removeprefix("http://")
    for block in BLOCKS:
        lines = block.replace(ADDRESS, here).replace(PYTHON, shlex.quote(sys.executable))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "no_proxy": "*"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr.decode(errors='replace')}"


@pytest.mark.parametrize("line", [line for block in BLOCKS for line in re.findall(r"\bcurl\b[^\n]*", block)])
def test_every_curl_fails_when_the_server_refuses(line: str) -> None:
    """Without -f, an example that does not work would look as if it did."""
    words = line.split()
    assert any(word == "--fail" or re.fullmatch(r"-[a-zA-Z]*f[a-zA-Z]*", word) for word in words)
