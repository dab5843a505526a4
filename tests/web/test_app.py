"""The written contract and the routes are one; each route answers HEAD as it answers GET."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import BaseRoute, Mount, Route

from app.web import app, contract
from tests.web import doors
from tests.web.doors import Archive

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
NOT_PART_OF_IT = {"/"}  # the page is for people


def routes(of: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in of:
        if isinstance(route, Route):
            path = re.sub(r":\w+}", "}", prefix + route.path)
            yield from ((path, method.lower()) for method in (route.methods or set()) - {"HEAD"})
        elif isinstance(route, Mount):
            yield from routes(route.routes, prefix + route.path)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in contract.read()["paths"].items():
        yield from ((path, method, item[method]) for method in METHODS & set(item))


def test_the_contract_is_the_routes() -> None:
    made = {
        (path, method) for path, method in routes(app.routes(allow_delete=True)) if path not in NOT_PART_OF_IT
    }
    assert made == {(path, method) for path, method, _operation in operations()}


def test_the_contract_is_openapi() -> None:
    """Its shape: version, unique operations that answer, parameters of the path, no loose reference."""
    document = contract.read()
    assert re.fullmatch(r"3\.1\.\d", document["openapi"])
    assert document["info"].keys() >= {"title", "version"}
    names = [operation["operationId"] for _path, _method, operation in operations()]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in document["tags"]}
    for path, _method, operation in operations():
        assert operation["summary"]
        assert operation["responses"]
        assert set(operation["tags"]) <= tags
        assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
        told = [*document["paths"][path].get("parameters", ()), *operation.get("parameters", ())]
        names_of_path = {one["name"] for one in map(resolved, told) if one["in"] == "path"}
        assert names_of_path == set(re.findall(r"{(\w+)}", path))


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = contract.read()
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def test_every_reference_leads_somewhere() -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            resolved(node)
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(child)

    walk(contract.read())


def test_the_contract_is_served(archive: Archive) -> None:
    answer = doors.get(f"{archive.url}/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == contract.read()


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/page/page.css"])
def test_the_page_is_served_and_bound_to_itself(archive: Archive, path: str) -> None:
    answer = doors.get(archive.url + path)
    assert answer.status_code == 200
    if path == "/":
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "<script>" not in answer.text


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/openapi.json", "/healthz", "/readyz", "/metrics"])
def test_head_is_answered_everywhere(archive: Archive, path: str) -> None:
    answer = doors.head(archive.url + path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_what_is_not_a_method_of_a_resource_is_told(archive: Archive) -> None:
    answer = doors.post(f"{archive.url}/healthz")
    doors.is_problem(answer, 405)
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD"]
