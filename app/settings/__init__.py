"""Every knob (`knobs.py`), read once from the environment (`REELWEB_…`); all problems are told at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import ValidationError

from app.settings.knobs import PREFIX, Settings

__all__ = ["Settings", "SettingsError", "read", "warnings"]


class SettingsError(Exception):
    """What is wrong with the settings, one line for each; no line repeats a value, it may be a secret."""


def read() -> Settings:
    """The settings of this process; SettingsError tells everything that is wrong with them."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            _line(str(problem["loc"][0]), problem["msg"])
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    raise SettingsError("\n".join(lines))  # outside the handler: a traceback must not show the values


def _line(field: str, message: str) -> str:
    told = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return told if told.startswith(PREFIX) else f"{PREFIX}{field.upper()}: {told}"


def warnings(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """What is allowed but probably not meant, one sentence each; told at every start."""
    told = []
    if settings.auth == "none":
        told.append(
            "REELWEB_AUTH=none: everybody who reaches this server can read and change what is stored."
        )
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            like = difflib.get_close_matches(name, known, 1)
            told.append(f"{name} is not a setting" + (f", {like[0]} is." if like else "."))
    if settings.storage_bucket is None and any(name.startswith(f"{PREFIX}S3_") for name in environment):
        told.append("REELWEB_S3_… says nothing without REELWEB_STORAGE_URL=s3://bucket/prefix.")
    return told
