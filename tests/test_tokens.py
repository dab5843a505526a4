"""The tokens file, and what is said of one that is wrong."""

from __future__ import annotations

import pytest

from app import tokens

DIGEST = "00" * 32


def test_the_tokens_file_is_names_scopes_and_digests() -> None:
    """Blank lines and remarks are passed over; the secret itself stands nowhere."""
    (token,) = tokens.parse(f"# who\n\nviewer read,write {DIGEST}  # ward 3\n")
    assert (token.name, token.scopes) == ("viewer", frozenset({"read", "write"}))
    assert token.sha256.hex() == DIGEST


@pytest.mark.parametrize(
    "line", ["viewer", f"viewer admin {DIGEST}", "viewer read 1234", "viewer read xyz", "a b c d"]
)
def test_a_wrong_line_is_told_by_its_number_and_never_by_its_content(line: str) -> None:
    with pytest.raises(ValueError, match="line 2") as told:
        tokens.parse(f"ok read {DIGEST}\n{line}\n")
    assert "viewer" not in str(told.value)
