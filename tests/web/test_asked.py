"""Which bytes are a request for a range, and what makes two of them the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web import asked, ranges
from app.web.asked import Asked

LINE = b"GET /a HTTP/1.1\r\nHost: b\r\n"


def read(data: bytes, peer: object = "peer") -> Asked | None:
    return asked.read(peer, data, 7)


@pytest.mark.parametrize(
    ("data", "first", "last"),
    [
        (LINE + b"Range: bytes=0-\r\n\r\n", 0, None),
        (LINE + b"range: bytes=3-4\r\nAccept: */*\r\n\r\n", 3, 4),
    ],
)
def test_a_request_for_a_range_is_read(data: bytes, first: int, last: int | None) -> None:
    found = read(data)
    assert found
    assert (found.first, found.last, found.since, found.representation) == (first, last, 7, None)


@pytest.mark.parametrize(
    "data",
    [
        LINE + b"\r\n",
        LINE + b"Range: bytes=-5\r\n\r\n",
        LINE + b"Range: bytes=0-1,4-5\r\n\r\n",
        LINE + b"Range: bytes=0x1-5\r\n\r\n",
        LINE + b"Range: bytes=0-5",
        LINE + b"Range: bytes=0-5\r\n",
        LINE + b"X-Range: bytes=0-5\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nRange: bytes=0-5\r\n\r\n",
        b"POST /a HTTP/1.1\r\nRange: bytes=0-5\r\nContent-Length: 4\r\n\r\nbody",
        (LINE + b"Range: bytes=0-5\r\n\r\n") * 2,
        LINE + b"X: " + b"x" * (8 << 10) + b"\r\nRange: bytes=0-5\r\n\r\n",
        LINE + b"Range: bytes=" + b"1" * 19 + b"-\r\n\r\n",
        b"",
    ],
    ids=[
        "no range", "suffix", "several", "no number", "cut", "cut before the end", "another field", "HEAD", "body",
        "two requests", "long", "a number too long", "nothing",
    ],
)  # fmt: skip
def test_everything_else_goes_the_whole_way(data: bytes) -> None:
    assert read(data) is None


@given(st.integers(0, 10**17), st.integers(0, 10**17), st.integers(0, 10**17))
def test_only_the_numbers_of_the_range_may_differ(first: int, last: int, other: int) -> None:
    one = read(LINE + b"Range: bytes=%d-%d\r\nAccept: video/mp4\r\n\r\n" % (first, last))
    same = read(LINE + b"Range: bytes=%d-\r\nAccept: video/mp4\r\n\r\n" % other)
    assert one
    assert same
    assert one.question == same.question
    for different in (
        read(LINE + b"Range: bytes=%d-\r\nAccept: video/mp5\r\n\r\n" % other),
        read(LINE + b"range: bytes=%d-\r\nAccept: video/mp4\r\n\r\n" % other),
        read(LINE + b"Accept: video/mp4\r\nRange: bytes=%d-\r\n\r\n" % other),
        read(LINE + b"Range: bytes=%d-\r\nAccept: video/mp4\r\n\r\n" % other, peer="another"),
    ):
        assert different
        assert different.question != one.question


@given(st.integers(0, 40), st.one_of(st.none(), st.integers(0, 40)), st.integers(0, 30))
def test_bounds_are_those_of_the_whole_way(first: int, last: int | None, length: int) -> None:
    """Or there are none, and whoever goes the whole way answers 200 or 416."""
    found = Asked(("", b"", b""), first, last, 0).bounds(length)
    try:
        expected = ranges.parse(f"bytes={first}-{'' if last is None else last}", length)
    except ranges.Unsatisfiable:
        expected = None
    assert found == expected
