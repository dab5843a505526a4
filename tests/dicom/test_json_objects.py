import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dicom.json_objects import Splitter
from app.errors import FailureReason, Refused

json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab"\\{}[],:é \n', max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\}', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.text('a"{', max_size=3), json, max_size=3)


def split(text: bytes, step: int, limit: int = 10_000) -> list[bytes]:
    splitter = Splitter(limit)
    found = [one for at in range(0, len(text), step) for one in splitter.feed(text[at : at + step])]
    splitter.close()
    return found


@given(st.lists(objects, max_size=4), st.integers(1, 50), st.booleans())
def test_every_object_comes_out_as_it_was_written(parts: list[object], step: int, spaced: bool) -> None:  # noqa: FBT001
    """However the text is cut, whatever stands in its strings."""
    text = orjson.dumps(parts, option=orjson.OPT_INDENT_2 if spaced else None)
    assert [orjson.loads(one) for one in split(text, step)] == parts


@pytest.mark.parametrize("text", [b"{}", b' {"a": "}"} \n', b"[{}]", b" [ ] ", b"[\n{}\t,\r{} ]"])
def test_one_object_needs_no_array(text: bytes) -> None:
    assert all(split(text, step) == split(text, 100) for step in range(1, len(text)))


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"[", b"[{}", b"[{},]", b"[{} {}]", b"[,{}]", b"{}{}", b"{},{}", b"[{}]]", b"[{}]x", b"[[{}]]", b"x",
     b"null", b'["a"]', b'{"a', b'{"\\', b"[{}] {}", b"[1]"],
)  # fmt: skip
def test_what_is_no_array_of_objects_is_refused(text: bytes) -> None:
    for step in (1, 100):
        with pytest.raises(Refused):
            split(text, step)


@pytest.mark.parametrize("text", [b'{"a":"' + b"x" * 200, b"[{" + b"[" * 200, b'{"' + b"\\\\" * 200])
def test_no_more_than_the_limit_is_held(text: bytes) -> None:
    for step in (1, 7, 1000):
        with pytest.raises(Refused) as refused:
            split(text, step, limit=100)
        assert refused.value.reason == FailureReason.OUT_OF_RESOURCES


def test_many_objects_need_no_more_room_than_one() -> None:
    assert len(split(b"[" + b",".join([b'{"a":1}'] * 10_000) + b"]", 1 << 20, limit=200_000)) == 10_000
