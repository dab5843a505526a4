"""Character sets: the standard's own examples, and what senders get wrong (PS3.5 H, I, J, K)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dicom import charset


@pytest.mark.parametrize(
    ("terms", "value", "expected"),
    [
        (b"", b"Doe", "Doe"),
        (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
        (b"ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        (b"ISO_IR 192", "王^小東".encode(), "王^小東"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"GBK", "王^小东".encode("gbk"), "王^小东"),
        (b"ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (
            b"ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
            "ﾔﾏﾀﾞ=山田^太郎",
        ),
        (
            b"\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
            "Hong^Gildong=洪^吉洞",
        ),
        (b"\\ISO 2022 IR 58", b"Zhang=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang=张^小东"),
        (b"ISO 2022 IR 6\\ISO 2022 IR 100", b"a\x1b-A\xe4\\\xe4", "aä\\ä"),
        (b"ISO 2022 IR 100\\ISO 2022 IR 144", b"\xe4\x1b-L\xd0\r\n\xe4", "äа\r\nä"),
    ],
)
def test_examples(terms: bytes, value: bytes, expected: str) -> None:
    """A value means what its Specific Character Set says, code extensions included."""
    assert charset.decoder(terms)(value) == expected


@pytest.mark.parametrize(
    "terms",
    [
        b"ISO-IR 100",
        b"ISO_IR_100",
        b"ISO IR 100",
        b"ISO_IR 100 ",
        b"ISO 2022 IR 100",
        b"ISO_2022_IR_100",
        b"iso_ir 100",
        b"ISO_IR 999",
        b"nonsense",
    ],
)
def test_misspelt_terms(terms: bytes) -> None:
    """What is meant is understood; what is unknown is read as Latin-1."""
    assert charset.decoder(terms)(b"\xe4") == "ä"


@pytest.mark.parametrize("terms", [b"ISO-IR 144", b"iso_2022-ir 144", b"ISO IR144"])
def test_misspelt_terms_are_not_all_latin(terms: bytes) -> None:
    """The number tells the character set, however the words before it are spelled."""
    assert charset.decoder(terms)(b"\xb6\xe3\xda") == "Жук"


def test_misspelt_terms_of_several_bytes() -> None:
    """A set that needs escape sequences is found by its own words only."""
    assert charset.decoder(b"ISO-2022-IR 87")(b"\x1b$B;3ED\x1b(B") == "山田"
    assert charset.decoder(b"ISO-IR 87")(b"\xe4") == "ä"


@pytest.mark.parametrize("terms", [b"ISO_IR 192\\ISO 2022 IR 100", b"ISO_IR 192"])
def test_standalone_sets_know_no_extensions(terms: bytes) -> None:
    """UTF-8 stands alone; escape sequences of others are not followed."""
    assert charset.decoder(terms)("ä".encode() + b"\x1b-L\xd0") == "ä\x1b-L�"


@given(st.binary(max_size=40), st.lists(st.sampled_from(sorted(charset._CODECS)), max_size=3))
def test_any_bytes_are_text(value: bytes, terms: list[str]) -> None:
    """Whatever the bytes and the terms, there is text that UTF-8 can hold."""
    charset.decoder("\\".join(terms).encode())(value + b"\x1b$B" + value).encode()


def test_a_flood_of_escapes_is_not_followed() -> None:
    """Text of nothing but escape sequences costs no more than its length."""
    text = charset.decoder(b"\\ISO 2022 IR 87")(b"\x1b$B" * 100_000)
    assert len(text) == 300_000
