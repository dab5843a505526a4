import re

import pytest

from app.storage import keys


def test_keys_spread_over_folders_and_keep_the_order_of_arrival() -> None:
    made = [keys.new() for _ in range(6400)]
    for key in made:
        assert re.fullmatch(r"objects/([0-9a-f]{2})/([0-9a-f]{2})/[0-9a-f-]{32}\1\2", key)
        assert keys.checked(key) == key
    assert len(set(made)) == len(made)
    assert len({key[:13] for key in made}) > 90
    names = [key.rpartition("/")[2] for key in made]
    assert names == sorted(names)


def test_keys_made_after_each_other_share_a_folder() -> None:
    """A new folder and its sync cost as much as an object; no folder gets much more than its share for that."""
    made = [keys.new()[:13] for _ in range(6400)]
    assert len(set(made)) < 6400 / 50
    assert max(made.count(folder) for folder in set(made)) < 500


def test_derived_objects_lie_apart() -> None:
    assert keys.rendition().startswith("renditions/")


@pytest.mark.parametrize(
    "key",
    [
        *(
            "",
            "objects",
            "objects/",
            "/etc/passwd",
            "objects/../../x",
            "objects//a",
            "objects/.",
            "objects/..",
        ),
        *("objects/.a", "tmp/a", "objects/a\n", "objects/a\0", "objects/a/", "../a", "a/b/c/d/e/f/g/h"),
        *("objects/" + "a" * 200, "objects\\a/b"),
    ],
)
def test_a_key_never_leads_out_of_the_storage(key: str) -> None:
    with pytest.raises(ValueError, match="no storage key"):
        keys.checked(key)


@pytest.mark.parametrize("prefix", ["..", "objects/..", "/", "tmp", "tmp/", "objects//", "a\n"])
def test_a_listing_stays_in_the_storage(prefix: str) -> None:
    with pytest.raises(ValueError, match="no beginning"):
        keys.checked_prefix(prefix)
