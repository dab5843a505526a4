"""What is kept is bounded; what is used stays."""

from app.kept import Kept


def test_values_are_bounded_by_weight_and_number() -> None:
    kept = Kept[str, int](100, most=5)
    for number in range(4):
        kept.put(str(number), number, 30)
        assert kept.get("0") == 0 or number > 2
    assert [kept.get(str(number)) for number in range(4)] == [0, None, 2, 3]
    for number in range(10, 16):
        kept.put(str(number), number, 0)
    assert kept.get("10") is None
    assert kept.get("15") == 15


def test_what_is_put_again_weighs_once_and_too_much_is_not_kept() -> None:
    kept = Kept[str, int](10)
    for number in range(5):
        kept.put("a", number, 10)
    assert kept.get("a") == 4
    kept.put("a", 5, 11)
    assert kept.get("a") is None
    kept.put("b", 6, 10)
    assert kept.get("b") == 6


def test_what_is_over_is_let_go_from_the_oldest_on() -> None:
    kept = Kept[str, int](100)
    for number in (1, 2, 9, 3):
        kept.put(str(number), number, 10)
    kept.forget(lambda number: number < 5)
    assert [kept.get(str(number)) for number in (1, 2, 9, 3)] == [None, None, 9, 3]
