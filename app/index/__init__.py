"""What we know: PostgreSQL behind asyncpg, the only place with SQL."""

from app.index.archive import Index, opened
from app.index.instances import Outcome
from app.index.journal import Journal
from app.index.pool import Knobs
from app.index.schema import migrate

__all__ = ["Index", "Journal", "Knobs", "Outcome", "migrate", "opened"]
