from __future__ import annotations

import json
import re
import socket

import pytest
from starlette.routing import Route
from tests.web.conftest import CASE

from infarct.core.errors import OutputError
from infarct.web import reading_routes, scan_routes, server


def test_every_route_is_documented_and_every_documented_route_exists(visitor) -> None:
    document = visitor.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    documented = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if method != "parameters"
    }
    routes = {
        (method, re.sub(r":path\}", "}", route.path))
        for route in (*scan_routes.ROUTES, *reading_routes.ROUTES)
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert documented == routes | {("GET", "/api/openapi.json")}
    for methods in document["paths"].values():
        for name, operation in methods.items():
            if name != "parameters":
                assert operation["summary"]
                assert "responses" in operation


def test_every_file_of_the_page_is_served_and_loads_nothing_from_elsewhere(visitor) -> None:
    for path in server.STATIC.iterdir():
        if path.name == "niivue.js" or path.is_dir():
            continue
        response = visitor.get(f"/static/{path.name}")
        assert response.status_code == 200, path.name
        if path.suffix in {".js", ".html", ".css"}:
            elsewhere = re.findall(r"https?://(?!www\.w3\.org)[^\s\"']+", response.text)
            assert elsewhere == [], path.name
            assert "innerHTML" not in response.text
    for name in ("style.css", "report.css"):
        assert visitor.get(f"/static/{name}").status_code == 200
    for name in ("server.py", "nothing.js", "frontend"):
        assert visitor.get(f"/static/{name}").status_code == 404


def test_a_missing_viewer_is_explained(visitor, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(server, "VIEWER", tmp_path / "niivue.js")
    response = visitor.get("/static/niivue.js")
    assert response.status_code == 404
    assert "make web" in response.json()["error"]


def test_errors_of_ours_are_not_shown(visitor, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("name of a patient")

    monkeypatch.setattr("infarct.web.worklist.Worklist.details", fail)
    response = visitor.get(f"/api/scans/{CASE}")
    assert response.status_code == 500
    assert "ValueError" in response.text
    assert "patient" not in response.text


def test_bodies_are_checked(visitor) -> None:
    for body in (b"", b"[]", b"{", b"[" * 100_000, json.dumps({"labels": 7}).encode()):
        response = visitor.put(f"/api/scans/{CASE}/mask", content=body)
        assert response.status_code == 400
        assert "expected" in response.json()["error"]


def test_a_taken_port_is_named() -> None:
    with server.listen("127.0.0.1", 0) as opened:
        opened.listen()
        port = opened.getsockname()[1]
        with pytest.raises(OutputError, match=f"port {port}.*--port"):
            server.listen("127.0.0.1", port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
