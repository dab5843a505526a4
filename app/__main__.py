"""The one command: serve, migrate, token, and the hidden ones that the supervisor starts."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import app
from app import settings as knobs
from app import supervisor, tokens
from app.embedded import CannotStart, process
from app.errors import ReelwebError

if TYPE_CHECKING:
    from app.tools import Tools
    from app.upkeep.findings import Report

    Work = Callable[[Tools, Report], Awaitable[None]]

# What a command needs is imported in it: `app.wiring` brings every library (numpy, av, …), and the
# supervisor, which lives as long as the server, would keep them in its memory for nothing.

commands = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"reelweb {app.__version__}")
        raise typer.Exit


def _fail(sentence: str) -> NoReturn:
    typer.echo("\n".join(f"reelweb: {line}" for line in sentence.splitlines()), err=True)
    raise typer.Exit(1)


def _settings() -> knobs.Settings:
    try:
        return knobs.read()
    except knobs.SettingsError as error:
        _fail(str(error))


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


async def _migrate(settings: knobs.Settings, dsn: str) -> None:
    """An index that is new, or was not made to its end, is made from storage before anybody is served."""
    from app import index

    await index.migrate(dsn)
    if not await index.is_rebuilding(dsn):
        return
    is_folder = settings.storage_url is None or settings.storage_url.startswith("file:")
    if is_folder and not (settings.storage_folder / "journal").is_dir():
        await index.begin(dsn)  # the usual first start, without the libraries that reading objects takes
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
    rate: Annotated[float | None, typer.Option(min=0.001, help="Read at most so many MiB a second.")] = None,
) -> None:
    """Compare every row, object and record, also while the server runs. Status 1: something is not well."""
    from app.upkeep import verify as verifying

    wishes = verifying.Wishes(repair, quick, rate and rate * (1 << 20))
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
    settings = _settings()

    async def run() -> int:
        async with supervisor.database(settings, alone=alone) as dsn:
            return await _kept_up(settings, dsn, what, work, rebuilds=alone)

    try:
        found = asyncio.run(run())
    except (ReelwebError, CannotStart, OSError) as error:
        typer.echo(f"reelweb: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(1 if found else 0)


async def _kept_up(settings: knobs.Settings, dsn: str, what: str, work: Work, *, rebuilds: bool) -> int:
    """How much was found and not mended."""
    from app import wiring
    from app.upkeep.shown import shown, summary

    with shown(what) as report:
        await wiring.upkeep(settings, dsn, lambda tools: work(tools, report), rebuilds=rebuilds)
    typer.echo(f"reelweb: {summary(report)}", err=True)
    return report.open


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
    from app import wiring

    wiring.serve_web(_settings(), fd)


@commands.command(hidden=True)
def jobs() -> None:
    """Make renditions and sweep."""
    from app import wiring

    wiring.run_jobs(_settings())


def main() -> None:
    """The console script."""
    commands(prog_name="reelweb")


if __name__ == "__main__":
    main()
