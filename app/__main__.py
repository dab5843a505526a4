"""The one command: serve, migrate, token, and the hidden ones that the supervisor starts."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import signal
from typing import Annotated, NoReturn

import typer

import app
from app import settings as knobs
from app import supervisor
from app.embedded import process
from app.errors import ReelwebError

# `app.wiring` is imported by the commands that use it: it brings every library (numpy, av, …), and the
# supervisor, which lives as long as the server, would keep them in its memory for nothing.

commands = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True
)
_SCOPES = ("read", "write", "delete")


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
    from app import index  # noqa: PLC0415

    try:
        asyncio.run(index.migrate(settings.database_url))
    except ReelwebError as error:
        _fail(str(error))


@commands.command()
def token(
    name: Annotated[str, typer.Argument(help="Who will use it: letters, digits and ._-")],
    scopes: Annotated[str, typer.Argument(help="Of read,write,delete, separated by commas.")],
) -> None:
    """Make a token: the first line is for its user and is shown only once, the second for REELWEB_TOKENS_FILE."""
    wanted = scopes.split(",")
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        _fail("NAME is made of letters, digits and ._-")
    if not set(wanted) <= set(_SCOPES):
        _fail("SCOPES are some of read,write,delete, separated by commas.")
    secret = secrets.token_urlsafe(32)
    typer.echo(secret)
    typer.echo(
        f"{name} {','.join(scope for scope in _SCOPES if scope in wanted)} {hashlib.sha256(secret.encode()).hexdigest()}"
    )


@commands.command(hidden=True)
def web_worker(fd: Annotated[int, typer.Option(help="The bound socket.")]) -> None:
    """Answer requests that come to an inherited socket."""
    from app import wiring  # noqa: PLC0415

    wiring.serve_web(_settings(), fd)


@commands.command(hidden=True)
def jobs() -> None:
    """Make renditions and sweep."""
    from app import wiring  # noqa: PLC0415

    wiring.run_jobs(_settings())


def main() -> None:
    """The console script."""
    commands(prog_name="reelweb")


if __name__ == "__main__":
    main()
