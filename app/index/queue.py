"""The queue of renditions: what a new instance wants, and how whoever makes it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MP4: Final = "mp4"
POSTER: Final = "poster"
STREAM: Final = "stream"
"""What a video's stream is, and where its samples lie."""

NORMALISED: Final = "normalised"

MAKERS: Final[Mapping[str, int]] = {MP4: 2, POSTER: 1, STREAM: 1, NORMALISED: 1}
"""Each kind's maker, by version: a new one makes older rows stale."""

OF_VIDEO: Final = (MP4, POSTER, STREAM)

WAITING: Final = "rendition_waiting"
"""The channel that hurries who leases."""

QUEUE: Final = """
with made as (
    insert into rendition (instance_id, kind, maker_version)
    select instance_id, kind, maker_version
    from unnest($1::bigint[]) as i (instance_id), unnest($2::text[], $3::integer[]) as k (kind, maker_version)
    on conflict do nothing returning id)
select pg_notify($4, '') where exists (select from made)"""


def queued(instance_ids: list[int], *kinds: str) -> tuple[list[int], list[str], list[int], str]:
    """The arguments of QUEUE."""
    return instance_ids, list(kinds), [MAKERS[kind] for kind in kinds], WAITING
