"""The one command: serve, import, migrate, verify, reindex, token, and the hidden ones that the supervisor starts."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import app
from app import metrics, supervisor, tokens
from app import settings as knobs
from app.embedded import CannotStart, process
from app.errors import ReelwebError

if TYPE_CHECKING:
    from app.tools import Tools
    from app.upkeep.findings import Report
    from app.upkeep.importing.remote import Address
    from app.upkeep.importing.start import Wishes

    Work = Callable[[Tools, Report], Awaitable[None]]

# What a command needs is imported in it: `app.wiring` brings every library (numpy, av, …), and the
# supervisor, which lives as long as the server, would keep them in its memory for nothing.

commands = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True
)


_CANNOT = 2  # of verify and reindex, whose 1 means that something is not well


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"reelweb {app.__version__}")
        raise typer.Exit


def _fail(sentence: str, status: int = 1) -> NoReturn:
    typer.echo("\n".join(f"reelweb: {line}" for line in sentence.splitlines()), err=True)
    raise typer.Exit(status)


def _settings(status: int = 1) -> knobs.Settings:
    try:
        return knobs.read()
    except knobs.SettingsError as error:
        _fail(str(error), status)


@commands.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """A DICOMweb server for moving and still images. Settings are read from the environment (REELWEB_…)."""


@commands.command()
def serve(
    *, with_parent: Annotated[bool, typer.Option(hidden=True, help="Stop when the starter dies.")] = False
) -> None:
    """Serve, with PostgreSQL and storage in REELWEB_DATA_DIR unless told otherwise."""
    if with_parent:
        process.end_with_parent(signal.SIGTERM)
    raise typer.Exit(supervisor.run(_settings()))


@commands.command()
def migrate() -> None:
    """Bring the database of REELWEB_DATABASE_URL to this version; serve does so by itself."""
    settings = _settings()
    if settings.database_url is None:
        _fail(
            "REELWEB_DATABASE_URL is not set; the embedded database is brought up to date by reelweb serve."
        )
    try:
        asyncio.run(_migrate(settings, settings.database_url))
    except ReelwebError as error:
        _fail(str(error))
    except ValueError as error:
        _fail(f"REELWEB_DATABASE_URL, or what answers there, cannot be understood ({type(error).__name__}).")


async def _is_whole(settings: knobs.Settings, dsn: str) -> bool:
    """Bring the schema to this version; whether the index knows all that the storage has."""
    from app import index

    await index.migrate(dsn)
    if not await index.is_rebuilding(dsn):
        return True
    is_folder = settings.storage_url is None or settings.storage_url.startswith("file:")
    if is_folder and not (settings.storage_folder / "journal").is_dir():
        await index.begin(dsn)  # the usual first start, without the libraries that reading objects takes
        return True
    return False


async def _migrate(settings: knobs.Settings, dsn: str) -> None:
    """An index that is new, or was not made to its end, is made from storage before anybody is served."""
    if await _is_whole(settings, dsn):
        return
    from app.upkeep import objects
    from app.upkeep import reindex as reindexing

    def work(tools: Tools, report: Report) -> Awaitable[None]:
        return reindexing.from_storage(tools, report, objects.Pace())

    typer.echo("reelweb: The index is made from storage.", err=True)
    await _kept_up(settings, dsn, "reindex", work, rebuilds=True)


@commands.command()
def verify(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Look at lengths only, read nothing.")] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Make instances of complete objects that were never acknowledged.")
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop-unacknowledged", help="Remove them, after REELWEB_GRACE_S.")
    ] = False,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Read at most so many MiB a second.")] = None,
) -> None:
    """Compare every row, object and record, also while the server runs. Status 1: something is not well."""
    from app.upkeep import verify as verifying

    if adopt and drop:
        raise typer.BadParameter("--adopt and --drop-unacknowledged contradict each other.")
    wishes = verifying.Wishes(
        repair, quick, rate and rate * (1 << 20), "adopt" if adopt else "drop" if drop else "keep"
    )
    _upkeep("verify", lambda tools, report: verifying.run(tools, wishes, report), alone=False)


@commands.command()
def reindex(
    *,
    outdated: Annotated[
        bool, typer.Option("--outdated", help="Scan again what an older version scanned; the server may run.")
    ] = False,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Read at most so many MiB a second.")] = None,
) -> None:
    """Make the whole index from storage alone; the server must not run. Status 1: something is not well."""
    from app.upkeep import objects
    from app.upkeep import reindex as reindexing

    pace = objects.Pace(rate and rate * (1 << 20))
    if outdated:
        _upkeep("reindex", lambda tools, report: reindexing.outdated(tools, report, pace), alone=False)
    else:
        _upkeep("reindex", lambda tools, report: reindexing.from_storage(tools, report, pace), alone=True)


def _upkeep(what: str, work: Work, *, alone: bool) -> NoReturn:
    settings = _settings(_CANNOT)

    async def run() -> int:
        async with supervisor.database(settings, alone=alone) as dsn:
            return await _kept_up(settings, dsn, what, work, rebuilds=alone)

    try:
        found = asyncio.run(run())
    except (ReelwebError, CannotStart, OSError) as error:
        _fail(str(error), _CANNOT)
    raise typer.Exit(1 if found else 0)


async def _kept_up(settings: knobs.Settings, dsn: str, what: str, work: Work, *, rebuilds: bool) -> int:
    """How much was found and not mended."""
    from app import wiring
    from app.upkeep.shown import shown, summary

    with shown(what) as report:
        await wiring.upkeep(settings, dsn, lambda tools: work(tools, report), rebuilds=rebuilds)
    typer.echo(f"reelweb: {summary(report)}", err=True)
    return report.open


@commands.command("import")
def import_(
    paths: Annotated[list[Path], typer.Argument(help="Files, folders, DICOMDIRs, zip and tar files.")],
    *,
    url: Annotated[str | None, typer.Option(help="Send to this DICOMweb root, not into our archive.")] = None,
    ca: Annotated[
        Path | None, typer.Option(dir_okay=False, exists=True, help="PEM file of authorities to trust there.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, exists=True, help="Holds its token; else REELWEB_IMPORT_TOKEN does."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on: import what comes, when it rests.")] = False,
    rest: Annotated[float, typer.Option(min=0, help="How many seconds a file must not change.")] = 5,
    show: Annotated[
        bool, typer.Option("--paths", help="Print the path of all that is refused, and why.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Read also what an earlier run brought in.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove each file once it is stored.")] = False,
    move_to: Annotated[
        Path | None, typer.Option(file_okay=False, help="Move each file there once it is stored.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="How many at once.")] = None,
) -> None:
    """Store files: what is the same again does no harm. Status 1: something was refused."""
    from app.upkeep.importing import aside, sources, start

    settings = _settings()
    if remove and move_to is not None:
        _fail("--remove and --move-to contradict each other.")
    kept_out = [settings.data_dir, settings.storage_folder]
    if move_to is not None:
        move_to.mkdir(parents=True, exist_ok=True)
        kept_out.append(move_to)
    wishes = start.Wishes(
        paths=tuple(map(str, paths)),
        notes=settings.data_dir / "import",
        own=sources.places(kept_out),
        jobs=jobs,
        rest_s=rest if watch else None,
        again=again,
        aside=aside.remove if remove else aside.moved_to(move_to) if move_to else aside.leave,
    )
    raise typer.Exit(_import(settings, wishes, _address(settings, url, token_file, ca), with_paths=show))


def _address(
    settings: knobs.Settings, url: str | None, token_file: Path | None, ca: Path | None
) -> Address | None:
    from app.upkeep.importing.remote import Address

    if url is None:
        return None
    secret = settings.import_token
    if token_file is not None:
        secret = token_file.read_text("utf-8").strip()
    try:
        return Address(url, secret, ca)
    except ValueError as error:
        _fail(str(error))


def _import(settings: knobs.Settings, wishes: Wishes, address: Address | None, *, with_paths: bool) -> int:
    """The exit status; 2 when it could not go on, 130 when it was told to stop."""
    from app.upkeep.importing import start

    os.umask(0o077)

    async def run() -> int:
        with start.stoppable() as stop, start.shown(wishes, with_paths=with_paths) as tally:
            try:
                if address is None:
                    await _import_here(settings, lambda tools: start.into(tools, wishes, tally, stop))
                else:
                    await start.to(address, wishes, tally, stop)
            finally:
                for line in tally.summary():
                    tally.say(line)
            if stop.is_set() and wishes.rest_s is None:
                tally.say("Stopped; run it again to go on.")
                return 130
            return 1 if tally.refused else 0

    try:
        return asyncio.run(run())
    except (ReelwebError, CannotStart, OSError) as error:
        typer.echo(f"reelweb: {error}", err=True)
        return 2
    except asyncio.CancelledError:
        return 130


async def _import_here(settings: knobs.Settings, work: Callable[[Tools], Awaitable[None]]) -> None:
    from app import wiring

    settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)  # the first command of all may be an import
    async with supervisor.database(settings, alone=False) as dsn:
        if not await _is_whole(settings, dsn):
            raise CannotStart(
                "The index is not whole: start reelweb serve, which makes it from storage, first."
            )
        quiet = {"log_level": "warning"} if settings.log_level == "info" else {}  # the summary tells
        await wiring.upkeep(settings.model_copy(update=quiet), dsn, work)


@commands.command()
def token(
    name: Annotated[str, typer.Argument(help="Who will use it: letters, digits and ._-")],
    scopes: Annotated[str, typer.Argument(help="Of read,write,delete, separated by commas.")],
) -> None:
    """Make a token: the first line is for its user and is shown only once, the second for REELWEB_TOKENS_FILE."""
    wanted = scopes.split(",")
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        _fail("NAME is made of letters, digits and ._-")
    if not set(wanted) <= set(tokens.SCOPES):
        _fail("SCOPES are some of read,write,delete, separated by commas.")
    secret = secrets.token_urlsafe(32)
    typer.echo(secret)
    typer.echo(
        f"{name} {','.join(scope for scope in tokens.SCOPES if scope in wanted)} {hashlib.sha256(secret.encode()).hexdigest()}"
    )


@commands.command(hidden=True)
def web_worker(fd: Annotated[int, typer.Option(help="The bound socket.")]) -> None:
    """Answer requests that come to an inherited socket."""
    metrics.reserve()
    from app import wiring

    wiring.serve_web(_settings(), fd)


@commands.command(hidden=True)
def jobs() -> None:
    """Make renditions and sweep."""
    metrics.reserve()
    from app import wiring

    wiring.run_jobs(_settings())


def main() -> None:
    """The console script."""
    commands(prog_name="reelweb")


if __name__ == "__main__":
    main()
