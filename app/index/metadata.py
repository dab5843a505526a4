"""/metadata as stored streams: one gzip blob per series, version and root, made when it is asked for (PS3.18 10.4)."""

# ruff: noqa: S608 - one condition for two statements, one bound

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import asyncpg
from isal import isal_zlib

from app.errors import NotFound, Unavailable
from app.index import documents
from app.index.archive import Index
from app.index.connection import Connection

_PIECE = 1 << 20
_GROUP = 4 << 20  # bytes of compressed metadata fetched at once
_PAGE = 500
_SMALL = 16 << 10  # bytes of compressed metadata that are composed on the loop

_IS_PLAYABLE = (
    "exists (select from rendition d where d.instance_id = i.id and d.kind = 'mp4' and d.state = 'ready')"
)

_INSTANCE = f"""
select s.study_instance_uid, r.series_instance_uid, i.sop_instance_uid, i.transfer_syntax_uid, i.metadata,
    {_IS_PLAYABLE} as is_playable
from instance i join series r on r.id = i.series_id join study s on s.id = i.study_id
where i.sop_instance_uid = $3 and s.study_instance_uid = $1 and r.series_instance_uid = $2"""

_SERIES = """
select r.id, r.version, m.sha256, octet_length(m.gzip) as length, substr(m.gzip, 1, $4) as head,
    m.used_at < now() - interval '1 hour' as is_rested
from series r join study s on s.id = r.study_id
left join series_metadata m on m.series_id = r.id and m.version = r.version and m.root = $3
where s.study_instance_uid = $1 and ($2::text is null or r.series_instance_uid = $2)
order by r.series_number, r.id"""

_VERSION = """
select s.study_instance_uid, r.series_instance_uid, r.study_id, r.version,
    r.changed_at < now() - interval '2 seconds' as is_quiet, m.sha256, octet_length(m.gzip) as length
from series r join study s on s.id = r.study_id
left join series_metadata m on m.series_id = r.id and m.version = r.version and m.root = $2
where r.id = $1"""

_SIZES = f"""
select id, instance_number, octet_length(metadata) as size from instance
where study_id = $1 and series_id = $2 and (instance_number, id) > ($3::integer, $4::bigint)
order by study_id, series_id, instance_number, id limit {_PAGE}"""

_CONTENT = f"""
select i.sop_instance_uid, i.transfer_syntax_uid, i.metadata, {_IS_PLAYABLE} as is_playable
from instance i where i.id = any($1::bigint[]) order by i.instance_number, i.id"""

# Whoever reads an older version has ten minutes to end. Roots come from whatever Host headers name: of a series few
# are kept, those in use that were there first, so that a client who invents some displaces but its own.
_MOST_ROOTS = 8
_KEEP = f"""
with stale as (
    delete from series_metadata where series_id = $1 and version < $2 and made_at < now() - interval '10 minutes'
), crowd as (
    delete from series_metadata m where m.series_id = $1 and m.version = $2 and m.root = any(array(
        select o.root from series_metadata o where o.series_id = $1 and o.version = $2 and o.root <> $3
        order by o.used_at < now() - interval '1 day', o.made_at, o.root offset {_MOST_ROOTS - 1}))
)
insert into series_metadata (series_id, version, root, sha256, gzip) values ($1, $2, $3, $4, $5)
on conflict (series_id, version, root) do update set used_at = now()
returning octet_length(gzip) as length"""

_REST = """
select substr(gzip, $4::integer + 1, $5::integer) from series_metadata
where series_id = $1 and version = $2 and root = $3"""

_USE = "update series_metadata set used_at = now() where series_id = any($1::bigint[]) and root = $2"

_DATASET = "select metadata from instance where id = $1"


async def dataset(index: Index, instance_id: int) -> bytes:
    """One instance's DICOM JSON as it was scanned; its bulk data has no addresses."""
    row = await index.reader.fetchrow(_DATASET, instance_id)
    if row is None:
        raise NotFound("This instance is gone.")
    text: bytes = isal_zlib.decompress(row["metadata"])
    return text


@dataclass(frozen=True, slots=True)
class _Blob:
    """One series, compressed: its first bytes, and where the rest is."""

    series_id: int
    version: int
    root: str
    sha256: bytes
    length: int
    head: bytes

    async def pieces(self, index: Index) -> AsyncIterator[bytes]:
        """All of it, bounded pieces; no connection is held between them."""
        at = len(self.head)
        if at:
            yield self.head
        while at < self.length:
            row = await index.reader.fetchrow(_REST, self.series_id, self.version, self.root, at, _PIECE)
            if row is None or not row[0]:
                raise Unavailable("This metadata was replaced while it was read.")
            at += len(row[0])
            yield row[0]


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON array, told apart by `etag`: a digest of its text, the same on every replica and after a restart."""

    etag: str
    _index: Index
    _blobs: Sequence[_Blob]

    async def gzip(self) -> AsyncIterator[bytes]:
        """As one gzip stream (several members in one body break browsers)."""
        if len(self._blobs) == 1:
            async for piece in self._blobs[0].pieces(self._index):
                yield piece
        else:
            async for piece in documents.compressed(self.identity()):
                yield piece

    async def identity(self) -> AsyncIterator[bytes]:
        """As text."""
        async for piece in documents.array(blob.pieces(self._index) for blob in self._blobs):
            yield piece


async def study(index: Index, study: str, root: str) -> Document:
    """Every instance of a study; made series by series, in memory that does not grow with it."""
    rows = await index.reader.fetch(_SERIES, study, None, root, 0)
    if not rows:
        raise NotFound("Nothing is stored under this study.")
    await _use(index, rows, root)
    blobs = [_stored(row, root) or await _made(index, row["id"], root, keep=True) for row in rows]
    sha256 = hashlib.sha256(b"".join(blob.sha256 for blob in blobs))
    return Document(sha256.hexdigest(), index, blobs)


async def series(index: Index, study: str, series: str, root: str) -> Document:
    """Every instance of a series, by number."""
    rows = await index.reader.fetch(_SERIES, study, series, root, _PIECE)
    if not rows:
        raise NotFound("Nothing is stored under this series.")
    await _use(index, rows, root)
    blob = _stored(rows[0], root) or await _made(index, rows[0]["id"], root, keep=False)
    return Document(blob.sha256.hex(), index, [blob])


async def instance(index: Index, study: str, series: str, instance: str, root: str) -> Document:
    """One instance."""
    row = await index.reader.fetchrow(_INSTANCE, study, series, instance)
    if row is None:
        raise NotFound("Nothing is stored under this instance.")
    composer = documents.Composer(root, study, series)
    await _compose(composer, [row])
    sha256, content = composer.close()
    return Document(sha256.hex(), index, [_Blob(0, 0, root, sha256, len(content), content)])


async def _use(index: Index, rows: Sequence[asyncpg.Record], root: str) -> None:
    """Note it once in a while: what is unused for longest goes first."""
    if rested := [row["id"] for row in rows if row["is_rested"]]:
        await index.reader.fetch(_USE, rested, root)


def _stored(row: asyncpg.Record, root: str) -> _Blob | None:
    if row["sha256"] is None:
        return None
    return _Blob(row["id"], row["version"], root, row["sha256"], row["length"], row["head"])


async def _made(index: Index, series_id: int, root: str, *, keep: bool) -> _Blob:
    """Make the blob of a series; one of a series that still grows is kept only where it must be read again."""
    async with index.turns.of(("metadata", series_id, root)):
        async with (
            index.reader.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            series = await connection.fetchrow(_VERSION, series_id, root)
            if series is None:
                raise NotFound("This series was removed.")
            if series["sha256"] is not None:  # somebody else's turn made it
                return _Blob(series_id, series["version"], root, series["sha256"], series["length"], b"")
            sha256, content = await _composed(connection, series_id, series, root)
        length = len(content)
        if keep or series["is_quiet"]:
            arguments = (series_id, series["version"], root, sha256, content)
            length = (await index.reader.fetch(_KEEP, *arguments))[0]["length"]
    return _Blob(series_id, series["version"], root, sha256, length, b"" if keep else content)


async def _composed(
    connection: Connection, series_id: int, series: asyncpg.Record, root: str
) -> tuple[bytes, bytes]:
    composer = documents.Composer(root, series["study_instance_uid"], series["series_instance_uid"])
    after = (-(2**31), 0)
    while sizes := await connection.fetch(_SIZES, series["study_id"], series_id, *after):
        for ids in _groups(sizes):
            await _compose(composer, await connection.fetch(_CONTENT, ids))
        after = (sizes[-1]["instance_number"], sizes[-1]["id"])
    return composer.close()


def _groups(sizes: Sequence[asyncpg.Record]) -> Iterator[list[int]]:
    """Ids in order, as many at once as their bytes allow."""
    group: list[int] = []
    total = 0
    for row in sizes:
        if group and total + row["size"] > _GROUP:
            yield group
            group, total = [], 0
        group.append(row["id"])
        total += row["size"]
    yield group


async def _compose(composer: documents.Composer, rows: Sequence[asyncpg.Record]) -> None:
    if sum(len(row["metadata"]) for row in rows) < _SMALL:
        composer.add(rows)
    else:
        await asyncio.to_thread(composer.add, rows)
