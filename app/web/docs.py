"""The page at `/docs`: the contract as a person reads it, without a script."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any, Final

from starlette.responses import HTMLResponse, Response

from app.web import contract, page
from app.web.state import Request

_METHODS: Final = ("get", "post", "delete")
_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>reelweb: the contract</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page/page.css">
<link rel="stylesheet" href="/page/docs.css">
</head>
"""

_Node = dict[str, Any]


class _Html(str):
    """Text that is markup already; all other text is escaped on its way into an element."""

    __slots__ = ()


async def docs(request: Request) -> Response:
    """Answer with the page."""
    return HTMLResponse(await asyncio.to_thread(_page), headers=page.HEADERS)


@cache
def _page() -> str:
    document = contract.read()
    info = document["info"]
    groups = [(tag, list(_operations(tag["name"]))) for tag in document["tags"]]
    header = _element(
        "header",
        _element("h1", _link("/", "reelweb")),
        _element("p", f"The contract of version {info['version']}", class_="root"),
        _link("/openapi.json", "openapi.json"),
    )
    body = _element(
        "main",
        _element("h2", info["summary"]),
        _element("p", info["description"], class_="facts"),
        _schemes(),
        *(_group(tag, operations) for tag, operations in groups),
        _schemas(),
    )
    return _HEAD + _element("body", header, _contents(groups), body, class_="docs") + "\n</html>\n"


def _operations(tag: str) -> Iterator[tuple[str, str, _Node]]:
    """Path, method and operation; the parameters of the path stand in the operation."""
    for path, item in contract.read()["paths"].items():
        for method in _METHODS:
            if method in item and tag in item[method]["tags"]:
                parameters = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                yield path, method, item[method] | {"parameters": parameters}


def _contents(groups: list[tuple[_Node, list[tuple[str, str, _Node]]]]) -> _Html:
    def entry(operation: _Node) -> _Html:
        return _element("li", _link(f"#{operation['operationId']}", operation["summary"]))

    lists = (
        _element(
            "li",
            _link(f"#{tag['name']}", tag["name"].capitalize()),
            _element("ul", *(entry(operation) for _path, _method, operation in operations)),
        )
        for tag, operations in groups
    )
    bodies = _element("li", _link("#bodies", "Bodies"))
    return _element("nav", _element("ul", *lists, bodies), aria_label="Contents")


def _schemes() -> _Html:
    schemes = contract.read()["components"]["securitySchemes"].values()
    entries = (
        _entry(_element("b", scheme["scheme"].capitalize()), "", scheme["description"]) for scheme in schemes
    )
    return _element(
        "section",
        _element("h3", "Who may come in", id="security"),
        _element("dl", *entries),
        class_="answers",
    )


def _group(tag: _Node, operations: list[tuple[str, str, _Node]]) -> _Html:
    heading = _element("h3", tag["name"].capitalize(), id=tag["name"])
    about = _element("p", tag.get("description", ""), class_="facts")
    return _element("section", heading, about, *(_operation(*operation) for operation in operations))


def _operation(path: str, method: str, operation: _Node) -> _Html:
    shown = _element("code", *(_Html(f"{escape(step)}<wbr>") for step in path.replace("/", " /").split()))
    summary = _element(
        "summary",
        _element("span", method.upper(), class_=f"method {method}"),
        shown,
        _element("span", operation["summary"], class_="what"),
    )
    parts = [
        _part("Parameters", map(_parameter, map(_resolved, operation["parameters"]))),
        _part("Body", _bodies(operation)),
        _part("Answers", (_answer(*answer) for answer in sorted(operation["responses"].items()))),
    ]
    # the anchor lies inside, so that a link to it opens what it is in
    anchor = _element("div", *parts, id=operation["operationId"])
    return _element("details", summary, anchor)


def _part(title: str, entries: Iterator[_Html]) -> _Html:
    made = list(entries)
    return _Html(_element("h4", title) + _element("dl", *made)) if made else _Html()


def _entry(name: str, kind: str, *told: str) -> _Html:
    return _Html(_element("dt", name, _element("small", kind)) + _element("dd", *told))


def _parameter(parameter: _Node) -> _Html:
    return _entry(
        _element("code", parameter["name"]),
        parameter["in"],
        parameter.get("description", ""),
        _element("small", _kind(parameter["schema"])),
    )


def _bodies(operation: _Node) -> Iterator[_Html]:
    if "requestBody" in operation:
        body = _resolved(operation["requestBody"])
        yield _entry("The instances", "required", body["description"], _types(body["content"]))


def _answer(status: str, answer: _Node) -> _Html:
    answer = _resolved(answer)
    headers = (
        _element("li", _element("code", name), " ", header.get("description", ""))
        for name, header in answer.get("headers", {}).items()
    )
    told = _element("b", status, class_=f"status s{status[0]}")
    return _entry(
        told, "", answer["description"], _types(answer.get("content", {})), _element("ul", *headers)
    )


def _types(content: _Node) -> _Html:
    """Media types, each with what its bodies are."""
    entries = []
    for media_type, told in content.items():
        schema = told.get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        about = _link(f"#{name}", name) if name else schema.get("description", "")
        entries.append(_element("li", _element("code", media_type), " ", about))
    return _element("ul", *entries, class_="types")


def _kind(schema: _Node) -> str:
    schema = _resolved(schema)
    kinds = schema.get("type", "")
    told = [" or ".join(kinds) if isinstance(kinds, list) else kinds]
    told += [", ".join(schema["enum"])] if "enum" in schema else []
    told += [f"{word} {schema[word]}" for word in ("minimum", "maximum", "pattern") if word in schema]
    text = ", ".join(told)
    return "" if text == "string" else text  # as nearly all are


def _schemas() -> _Html:
    schemas = contract.read()["components"]["schemas"]
    return _element(
        "section",
        _element("h3", "Bodies", id="bodies"),
        *(_schema(name, schema) for name, schema in schemas.items()),
    )


def _schema(name: str, schema: _Node) -> _Html:
    fields = (
        _entry(_element("code", field), "", told.get("description", ""), _element("small", _kind(told)))
        for field, told in schema.get("properties", {}).items()
    )
    about = [] if "properties" in schema else [_element("p", _kind(schema))]
    content = _element("div", *about, _element("dl", *fields), id=name)
    return _element("details", _element("summary", _element("code", name)), content)


def _resolved(node: _Node) -> _Node:
    while "$ref" in node:
        found = contract.read()
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def _link(address: str, text: str) -> _Html:
    return _element("a", text, href=address)


def _element(name: str, *children: str, **attributes: str) -> _Html:
    """One element; one that would be empty is left out."""
    inner = "".join(child if isinstance(child, _Html) else escape(child) for child in children)
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"' for key, text in attributes.items()
    )
    return _Html(f"<{name}{told}>{inner}</{name}>") if inner else _Html()
