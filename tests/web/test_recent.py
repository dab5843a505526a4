"""What was looked up a moment ago is found again, for a moment and within bounds."""

import pytest

from app.web.recent import MOST, Recent


def test_a_value_is_found_while_it_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    recent: Recent[str] = Recent(life_s=2)
    recent.put(("a", "b"), "value", 1)
    now += 1.9
    assert recent.get(("a", "b")) == "value"
    assert recent.get(("a", "c")) is None
    now += 0.2
    assert recent.get(("a", "b")) is None


def test_values_are_bounded_by_weight_and_number() -> None:
    recent: Recent[int] = Recent(limit=100)
    for number in range(12):
        recent.put((str(number),), number, 10)
    assert [recent.get((str(number),)) for number in range(3)] == [None, None, 2]
    recent.put(("heavy",), 1, 101)
    assert recent.get(("heavy",)) is None
    light: Recent[int] = Recent()
    for number in range(MOST + 1):
        light.put((str(number),), number, 0)
    assert light.get(("0",)) is None
    assert light.get(("1",)) == 1


def test_what_is_put_again_weighs_once() -> None:
    recent: Recent[int] = Recent(limit=10)
    for number in range(5):
        recent.put(("a",), number, 10)
    assert recent.get(("a",)) == 4
