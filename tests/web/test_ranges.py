from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.web import ranges
from app.web.ranges import Answer, PreconditionFailed, Unsatisfiable, Validators

NOW = datetime(2026, 11, 22, 10, 15, 30, 123456, tzinfo=UTC)
DATE = "Sun, 22 Nov 2026 10:15:30 GMT"
LATER = "Sun, 22 Nov 2026 10:15:31 GMT"
EARLIER = "Sun, 22 Nov 2026 10:15:29 GMT"
KNOWN = Validators('"abc"', NOW)


def ask(method: str = "GET", /, length: int = 1000, validators: Validators = KNOWN, **headers: str) -> Answer:
    return asked(
        {name.replace("_", "-"): value for name, value in headers.items()}, method, length, validators
    )


def asked(
    headers: dict[str, str], method: str = "GET", length: int = 1000, validators: Validators = KNOWN
) -> Answer:
    return ranges.answer(method, headers, length, validators)


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-", 0, 1000),
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=990-5000", 990, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-5000", 0, 1000),
        ("Bytes = 10-19", 10, 20),
        ("bytes=,10-19,", 10, 20),
        ("bytes=0-18446744073709551615", 0, 1000),
        ("bytes=-340282366920938463463374607431768211455", 0, 1000),
    ],
)
def test_a_range_is_answered_exactly(header: str, start: int, stop: int) -> None:
    found = ask(range=header)
    assert (found.status, found.start, found.stop) == (206, start, stop)
    assert found.headers["Content-Range"] == f"bytes {start}-{stop - 1}/1000"
    assert found.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize(
    "header", ["bytes=1000-", "bytes=1000-2000", "bytes=5000-", "bytes=-0", f"bytes={2**64}-"]
)
def test_a_range_beyond_the_end_is_told_the_length(header: str) -> None:
    with pytest.raises(Unsatisfiable) as unsatisfiable:
        ask(range=header)
    assert unsatisfiable.value.headers == {"Content-Range": "bytes */1000"}


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_nothing_has_no_ranges(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        ask(range=header, length=0)


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=20-10", "items=0-1", "bytes=0", "bytes=+1-2"),
        *("bytes=1-2x", "bytes=0-1,5-6", "bytes=0-1, 5-", "bytes=--5", "bytes=1-2-3", "bytes=٣-٤"),
        "bytes=" + "9" * 100 + "-",
    ],
)
def test_what_is_no_single_range_is_answered_with_the_whole(header: str) -> None:
    found = ask(range=header)
    assert (found.status, found.start, found.stop) == (200, 0, 1000)
    assert found.headers["Content-Length"] == "1000"
    assert "Content-Range" not in found.headers


def test_a_head_tells_the_whole_length() -> None:
    """Range is defined for GET only."""
    found = ask("HEAD", range="bytes=0-9")
    assert (found.status, found.headers["Content-Length"]) == (200, "1000")


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('"abc"', 206),
        ('"abd"', 200),
        ('W/"abc"', 200),
        (DATE, 206),
        (LATER, 200),
        (EARLIER, 200),
        ("nonsense", 200),
    ],
)
def test_a_part_is_only_joined_to_a_part_of_the_same_version(condition: str, status: int) -> None:
    assert ask(range="bytes=0-9", if_range=condition).status == status


def test_an_outdated_range_beyond_the_end_is_answered_with_the_whole() -> None:
    assert ask(range="bytes=5000-", if_range='"old"').status == 200


def test_a_weak_tag_never_joins_parts() -> None:
    assert ask(validators=Validators('W/"a"'), range="bytes=0-9", if_range='W/"a"').status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-none-match": '"abc"'}, 304),
        ({"if-none-match": 'W/"abc"'}, 304),
        ({"if-none-match": '"x", W/"y" ,"abc"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-none-match": "abc"}, 200),
        ({"if-none-match": '"x"', "if-modified-since": LATER}, 200),
        ({"if-modified-since": DATE}, 304),
        ({"if-modified-since": LATER}, 304),
        ({"if-modified-since": EARLIER}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-none-match": '"abc"', "range": "bytes=0-9"}, 304),
        ({"if-match": '"abc"'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-unmodified-since": DATE}, 200),
        ({"if-unmodified-since": "nonsense"}, 200),
    ],
)
def test_a_client_that_has_it_is_not_sent_it(headers: dict[str, str], status: int) -> None:
    found = asked(headers)
    assert found.status == status
    assert found.headers["ETag"] == '"abc"'
    assert found.headers["Last-Modified"] == DATE


@pytest.mark.parametrize("headers", [{"if-match": '"x"'}, {"if-unmodified-since": EARLIER}])
def test_what_changed_fails_the_precondition(headers: dict[str, str]) -> None:
    with pytest.raises(PreconditionFailed):
        asked(headers)


def test_without_validators_there_are_ranges_but_no_conditions() -> None:
    found = ask(validators=Validators(), if_none_match='""', if_modified_since=DATE, range="bytes=0-9")
    assert found.status == 206
    assert found.headers.keys() == {"Accept-Ranges", "Content-Length", "Content-Range"}
    assert ask(validators=Validators(), range="bytes=0-9", if_range='""').status == 200


@given(st.text() | st.from_regex(r"bytes=[-0-9, ]*", fullmatch=True), st.integers(0, 2000))
@example("bytes=0-0", 0)
def test_whatever_is_asked_the_answer_lies_inside(header: str, length: int) -> None:
    try:
        found = ask(range=header, length=length)
    except Unsatisfiable:
        return
    assert 0 <= found.start <= found.stop <= length
    assert found.status == 200 or found.start < found.stop


@given(st.text())
def test_no_condition_is_an_error(text: str) -> None:
    for name in ("if-range", "if-none-match", "if-modified-since", "if-unmodified-since"):
        assert asked({"range": "bytes=0-9", name: text}).status in {200, 206, 304}
