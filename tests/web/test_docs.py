"""The page at /docs holds the whole contract, and nothing that runs or comes from elsewhere."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

from app.web import contract, docs
from tests.web import doors
from tests.web.doors import Archive
from tests.web.test_app import operations, resolved


class _Read(HTMLParser):
    """The text, the anchors and the addresses of a page, and whether what is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.ids, self.addresses = "", [""], [""]
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "link", "wbr"}:
            self.open.append(tag)
        told = dict(attrs)
        self.ids.append(told.get("id") or "")
        self.addresses.append(told.get("href") or told.get("src") or "")
        assert tag != "script"
        assert not [name for name in told if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_tells_the_whole_contract(archive: Archive) -> None:
    """Each operation with its path, parameters, media types, headers and statuses; each body with its fields."""
    answer = doors.get(f"{archive.url}/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    page = answer.text
    for path, _method, operation in operations():
        assert path in _Read(page).text
        beginning = page.index(f'id="{operation["operationId"]}"')
        section = unescape(page[beginning : page.index("</details>", beginning)])
        shared = contract.read()["paths"][path].get("parameters", ())
        for parameter in map(resolved, [*shared, *operation.get("parameters", ())]):
            assert f"<code>{parameter['name']}</code>" in section
            assert parameter.get("description", "") in section
        for status, response in operation["responses"].items():
            told = resolved(response)
            assert f">{status}</b>" in section
            assert told["description"] in section
            for name in [*told.get("content", ()), *told.get("headers", ())]:
                assert f"<code>{name}</code>" in section
    for name, schema in contract.read()["components"]["schemas"].items():
        section = page[page.index(f'id="{name}"') :]
        assert all(f"<code>{field}</code>" in section for field in schema.get("properties", ()))


def test_the_page_is_sound(archive: Archive) -> None:
    """What is opened is closed, an anchor is there once, a link leads somewhere on this server."""
    read = _Read(doors.get(f"{archive.url}/docs").text)
    assert read.open == []
    ids = [anchor for anchor in read.ids if anchor]
    assert len(ids) == len(set(ids))
    for address in filter(None, read.addresses):
        assert address[1:] in ids if address.startswith("#") else re.match(r"/|data:,$", address)
        if address.startswith("/"):
            assert doors.get(archive.url + address).status_code == 200


def test_what_the_contract_says_is_text() -> None:
    """A description is nobody's markup."""
    made = docs._element("p", "<b>1 & 2</b>", title='"')
    assert made == '<p title="&quot;">&lt;b&gt;1 &amp; 2&lt;/b&gt;</p>'
