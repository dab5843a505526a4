"""What every statement needs of asyncpg: the type of a connection, and its errors as ours, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import asyncpg

from app.errors import Unavailable

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, for the moment
)


class Raced(Exception):
    """Another process changed one of these instances in between: look again."""


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the database refuses is Unavailable; its own text, which may quote a value, goes no further."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise Unavailable(f"The database did not do it (SQLSTATE {error.sqlstate}).") from None
    except (*_AWAY, asyncpg.InternalClientError) as error:
        raise Unavailable(f"The database does not answer ({type(error).__name__}).") from None


def is_away(error: BaseException) -> bool:
    """The connection or the server failed, not the statement or its values (which asyncpg calls ValueError)."""
    return isinstance(error, _AWAY) and not isinstance(error, ValueError)
