"""What a process tells: one line for each thing, ours and the libraries' alike, and never a traceback's texts."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson
import structlog

from app.errors import ReelwebError, where

log = structlog.get_logger("reelweb")

# uvicorn gives Starlette's traceback as a message; who opens the tools has told why they could not be opened.
_TOLD_ALREADY: Final = ("Traceback", "Application startup failed")
_SPECIAL: Final = re.compile(r"[ =\"']")


class _Libraries(logging.Handler):
    """Libraries' own lines, among ours: the first line only, for what follows quotes errors and their values."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one."""
        line = record.getMessage().partition("\n")[0]
        if line.startswith(_TOLD_ALREADY):
            return
        error = record.exc_info[1] if record.exc_info else None
        fields = {"error": type(error).__name__} if error else {}
        structlog.get_logger().log(record.levelno // 10 * 10, line, by=record.name, **fields)


def _json(event: dict[str, Any], **fallback: Any) -> str:
    """In a fraction of the time that the standard library takes, which has what is no ASCII or no UTF-8 at all."""
    try:
        return orjson.dumps(event, **fallback).decode("ascii")
    except (TypeError, UnicodeDecodeError):
        return json.dumps(event, **fallback)


def _text(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    """As structlog's own, which takes three times as long, where there are no colours."""
    what: str = event.pop("event")
    shown = what if what.isprintable() else repr(what)  # a terminal would obey the rest
    opening = f"{event.pop('timestamp')} [{event.pop('level'):9}] {shown:30}"
    event.pop("exc_info", None)
    return " ".join([opening, *(f"{name}={_word(event[name])}" for name in sorted(event))]).rstrip()


def _word(value: object) -> str:
    if isinstance(value, str) and value.isprintable() and not _SPECIAL.search(value):
        return value
    return repr(value)


def configure(level: str, style: str) -> None:
    """Lines for people (`text`) or programs (`json`) on the standard error, from this level on."""
    renderer: structlog.typing.Processor = _text
    if style == "json":
        renderer = structlog.processors.JSONRenderer(_json)
    elif sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=lambda _out, _error: None)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)


@contextmanager
def last_words() -> Iterator[None]:
    """Whatever ends this process is one line, and status 1."""
    try:
        yield
    except* ReelwebError as group:
        log.error("ended", why=str(_first(group)))  # noqa: TRY400 - our own sentence is enough
        sys.exit(1)
    except* Exception as group:  # noqa: BLE001 - the last door of the process
        error = _first(group)
        log.error("ended", error=type(error).__name__, at=where(error))  # noqa: TRY400
        sys.exit(1)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
