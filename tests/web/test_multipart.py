from collections.abc import AsyncIterator
from email import message_from_bytes
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web import multipart
from app.web.multipart import Malformed, Reader

Parts = list[tuple[dict[str, str], bytes]]


async def source(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(*chunks: bytes, boundary: str = "b", limit: int = 16 << 10) -> Parts:
    return await drained(Reader(source(*chunks), boundary, limit))


async def drained(reader: Reader) -> Parts:
    return [
        (part.headers, b"".join([bytes(at) async for at in part.chunks])) async for part in reader.parts()
    ]


TWO = b"--b\r\nContent-Type: application/dicom\r\n\r\none\r\n--b\r\nX: y\r\n\r\n\r\n--c\r\ntwo\r\n--b--\r\n"
TWO_PARTS = [({"content-type": "application/dicom"}, b"one"), ({"x": "y"}, b"\r\n--c\r\ntwo")]


@pytest.mark.parametrize(
    "body",
    [
        TWO,
        TWO[:-2],
        b"\r\n" + TWO,
        b"This is a preamble.\r\nIt is ignored: --b\r\n" + TWO,
        TWO + b"an epilogue\r\n--b\r\nX: no part\r\n\r\nno\r\n--b--",
        TWO.replace(b"--b\r\n", b"--b \t \r\n"),
        TWO.replace(b"Content-Type", b"cOnTENT-tYPE").replace(b"X:", b"X :"),
        TWO.replace(b"application/dicom", b"  application/dicom  "),
        TWO.replace(b"Content-Type: ", b"Content-Type:\r\n\t"),
    ],
    ids=[
        "plain",
        "no line after",
        "line before",
        "preamble",
        "epilogue",
        "blanks",
        "case",
        "spaces",
        "folded",
    ],
)
async def test_every_spelling_of_a_message_has_the_same_parts(body: bytes) -> None:
    """However the network cuts it: at every byte, and in bytes."""
    for at in range(len(body)):
        assert await read(body[:at], body[at:]) == TWO_PARTS
    assert await read(*(body[at : at + 1] for at in range(len(body)))) == TWO_PARTS


async def test_a_message_that_is_cut_off_is_malformed() -> None:
    """At whichever byte: a part that misses its end is never taken for whole."""
    for at in range(len(TWO) - 2):
        with pytest.raises(Malformed):
            await read(TWO[:at])


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b--", []),
        (b"--b\r\n\r\nx\r\n--b--", [({}, b"x")]),
        (b"--b\r\nA: 1\r\n\r\n\r\n--b--", [({"a": "1"}, b"")]),
        (b"--b\r\nA: 1\r\n\r\n--b--", [({"a": "1"}, b"")]),
        (b"--b\r\n\r\n--b\r\nA: 1\r\n\r\n--b--", [({}, b""), ({"a": "1"}, b"")]),
        (b"--b\r\n\r\n--x\r\n--b--", [({}, b"--x")]),
        (b"--b\r\n\r\n\r\n\r\n\r\n--b--", [({}, b"\r\n\r\n")]),
        (b"--b\r\n\r\n\r\r\n--b--", [({}, b"\r")]),
        (b"--b\r\n\r\n\r\n--\r\n--b--", [({}, b"\r\n--")]),
        (b"--b\r\nA: 1:2\r\n\r\nx\r\n--b--", [({"a": "1:2"}, b"x")]),
    ],
)
async def test_odd_messages_are_read_to_the_letter(body: bytes, parts: Parts) -> None:
    for at in range(len(body)):
        assert await read(body[:at], body[at:]) == parts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing here",
        b"--b\r\nno colon\r\n\r\nx\r\n--b--",
        b"--b\r\n: no name\r\n\r\nx\r\n--b--",
        b"--bee\r\n\r\nx\r\n--b--",
        b"--b\r\n folded onto nothing\r\n\r\n\r\n--b--",
        b"--b" + b" " * 300 + b"\r\n\r\n\r\n--b--",
        b"--b\r\nA: 1\r\n--b--",
    ],
)
async def test_what_is_no_message_is_malformed(body: bytes) -> None:
    for step in (1, len(body) or 1):
        with pytest.raises(Malformed):
            await read(*(body[at : at + step] for at in range(0, len(body), step)))


@pytest.mark.parametrize(
    "line", [b"A: " + b"x" * 2000, b"A: 1\r\n" * 200, b"x" * 2000], ids=["long", "many", "endless"]
)
@pytest.mark.parametrize("step", [7, 10_000])
async def test_headers_are_held_only_so_far(line: bytes, step: int) -> None:
    body = b"--b\r\n" + line + b"\r\n\r\nx\r\n--b--"
    with pytest.raises(Malformed, match="too long"):
        await read(*(body[at : at + step] for at in range(0, len(body), step)), limit=1000)


@pytest.mark.parametrize("boundary", ["", " ", "a\r\nb", "ä", "b" * 201, "b "])
def test_a_boundary_that_is_none_is_malformed(boundary: str) -> None:
    with pytest.raises(Malformed):
        Reader(source(), boundary)


async def test_what_is_left_unread_of_a_part_is_skipped() -> None:
    """Whether its reader stopped early, closed it or never began."""
    body = b"".join(b"--b\r\n\r\n%d" % number + b"-" * 50 + b"\r\n" for number in range(4)) + b"--b--"
    begun: list[bytes] = []
    async for part in Reader(source(*(body[at : at + 20] for at in range(0, len(body), 20))), "b").parts():
        if len(begun) == 1:
            await anext(part.chunks)
            await part.chunks.aclose()  # type: ignore[attr-defined]  # what an async generator has
            begun.append(b"1")
        elif len(begun) == 2:
            begun.append(b"2")
        else:
            begun.append(bytes(await anext(part.chunks))[:1])
    assert begun == [b"0", b"1", b"2", b"3"]


async def test_a_part_gives_nothing_of_its_neighbour() -> None:
    parts = Reader(source(TWO), "b").parts()
    first = await anext(parts)
    second = await anext(parts)
    assert [chunk async for chunk in first.chunks] == []
    assert b"".join([bytes(chunk) async for chunk in second.chunks]) == TWO_PARTS[1][1]


async def test_an_error_of_the_connection_comes_through() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield TWO[:60]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await drained(Reader(broken(), "b"))


async def test_bodies_are_handed_on_without_a_copy() -> None:
    chunk = bytes(65536)
    parts = Reader(source(b"--b\r\n\r\n", chunk, b"\r\n--b--"), "b").parts()
    chunks = [at async for at in (await anext(parts)).chunks]
    assert [at.obj for at in chunks] == [chunk]
    assert chunks[0].obj is chunk


@given(
    bodies=st.lists(
        st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n", b"b", b"x", b"\r\n--"])).map(b"".join)
    ),
    cuts=st.lists(st.integers(0, 500)),
)
async def test_what_is_written_is_read(bodies: list[bytes], cuts: list[int]) -> None:
    """Bodies as near to delimiters as they can be, cut anywhere."""
    boundary = "bb-b"
    whole = b"".join(
        multipart.opening(boundary, f"a/{number}", first=not number) + body
        for number, body in enumerate(bodies)
    ) + multipart.closing(boundary)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    pieces = [whole[start:stop] for start, stop in pairwise(bounds)]
    expected = [({"content-type": f"a/{number}"}, body) for number, body in enumerate(bodies)]
    if not any(b"\r\n--bb-b" in b"\r\n" + body for body in bodies):
        assert await read(*pieces, boundary=boundary) == expected


def test_an_answer_is_understood_by_others() -> None:
    """By Python's MIME reader; and a part's first header is the one that cornerstone looks for."""
    boundary = multipart.new_boundary()
    first = multipart.opening(
        boundary, "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", first=True
    )
    assert first.startswith(f"--{boundary}\r\nContent-Type: application/octet-stream; ".encode())
    body = first + b"one" + multipart.opening(boundary, "image/jp2", "/frames/2", first=False) + b"two"
    top = multipart.content_type("application/octet-stream", boundary)
    message = message_from_bytes(f"Content-Type: {top}\r\n\r\n".encode() + body + multipart.closing(boundary))
    one, two = [part for part in message.walk() if not part.is_multipart()]
    assert message.get_param("type") == "application/octet-stream"
    assert (one.get_payload(), two.get_payload(), two["Content-Location"]) == ("one", "two", "/frames/2")


def test_boundaries_never_repeat() -> None:
    assert multipart.new_boundary() != multipart.new_boundary()
