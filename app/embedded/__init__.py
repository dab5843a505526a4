"""A PostgreSQL of our own: found, made, run and ended with us, so that one command is enough."""

from __future__ import annotations


class CannotStart(Exception):
    """One sentence for the person at the terminal."""
