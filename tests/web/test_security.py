"""Every route refuses every request that does not come from the page or carry the token."""

from __future__ import annotations

import re

import pytest
from starlette.routing import Route
from tests.web.conftest import CASE, HOME, PORT, TOKEN

from infarct.web import reading_routes, scan_routes
from infarct.web.security import Access

ROUTES = [
    ("GET", "/"),
    ("GET", "/static/main.js"),
    ("GET", "/api/openapi.json"),
    *(
        (method, re.sub(r"\{\w+(:path)?\}", "1", route.path.replace("{scan}", CASE)))
        for route in (*scan_routes.ROUTES, *reading_routes.ROUTES)
        if isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"})
        if route.path != "/api/events"  # never ends; its refusal is tested by name below
    ),
]

BARE = {"Authorization": ""}
REFUSED = {
    "no token": (BARE, 401),
    "wrong token": ({"Authorization": "Bearer " + TOKEN[:-1]}, 401),
    "token as another scheme": ({"Authorization": f"Basic {TOKEN}"}, 401),
    "cookie of another server": ({**BARE, "Cookie": f"infarct-9999={TOKEN}"}, 401),
    "wrong host": ({"Host": "attacker.example"}, 421),
    "host that begins alike": ({"Host": f"127.0.0.1:{PORT}.attacker.example"}, 421),
    "host with another port": ({"Host": "127.0.0.1:80"}, 421),
    "foreign origin": ({"Origin": "http://attacker.example"}, 403),
    "origin of a file": ({"Origin": "null"}, 403),
    "origin with another port": ({"Origin": "http://127.0.0.1:80"}, 403),
    "cross-site request": ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
    "same-site request": ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_every_route_refuses_strangers(visitor, attack: str) -> None:
    headers, status = REFUSED[attack]
    for method, path in [*ROUTES, ("GET", "/api/events")]:
        response = visitor.request(method, path, headers=headers)
        assert response.status_code == status, (method, path)
        assert CASE not in response.text


def test_every_route_lets_the_token_pass(visitor) -> None:
    for method, path in ROUTES:
        assert visitor.request(method, path).status_code not in {401, 403, 421}, (method, path)


def test_the_link_sets_a_strict_cookie_and_leaves_the_address(visitor) -> None:
    response = visitor.get(f"/?token={TOKEN}&scan=7", headers=BARE)
    assert response.status_code == 303
    assert response.headers["location"] == "/?scan=7"
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert f"infarct-{PORT}={TOKEN}" in cookie
    # The cookie is now in the visitor, and is enough.
    assert visitor.get("/api/scans", headers=BARE).status_code == 200
    visitor.cookies.clear()
    assert visitor.get("/?token=wrong", headers=BARE).status_code == 401


def test_a_link_in_another_program_opens_the_page_but_changes_nothing(visitor) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert visitor.get("/", headers=headers).status_code == 200
    assert visitor.post(f"/api/scans/{CASE}/cancel", headers=headers).status_code == 403


def test_the_page_itself_may_write(visitor) -> None:
    headers = {"Origin": HOME, "Sec-Fetch-Site": "same-origin"}
    response = visitor.post(f"/api/scans/{CASE}/cancel", headers=headers)
    assert response.status_code == 404  # there is no such job


def test_every_answer_has_strict_headers(visitor) -> None:
    for path in ("/", "/static/main.js", "/api/scans", "/nothing"):
        headers = visitor.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_a_report_runs_in_an_origin_of_its_own(visitor) -> None:
    response = visitor.get(f"/api/scans/{CASE}/report")
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("sandbox ")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy


def test_the_token_is_not_shown_by_accident() -> None:
    access = Access(PORT)
    assert len(access.token) >= 32
    assert access.token not in repr(access)
    assert Access(PORT).token != access.token


PLACES = [
    "..",
    "../case",
    "..%2fcase",
    "%2e%2e%2fcase",
    "%2fetc%2fpasswd",
    "case",
    "C%3a%5c",
    "%00",
]


@pytest.mark.parametrize("place", PLACES)
def test_no_address_reaches_a_path(visitor, place: str) -> None:
    for path in (
        f"/api/scans/{place}",
        f"/api/scans/{place}/report",
        f"/api/scans/{place}/images/dwi.nii.gz",
        f"/api/scans/{CASE}/files/{place}/summary.json",
        f"/api/scans/{CASE}/files/%2e%2e/case/summary.json",
        f"/static/{place}",
        "/static/%2e%2e%2fserver.py",
    ):
        response = visitor.get(path)
        if response.request.url.path == "/":
            # The client itself has resolved the dots.
            continue
        assert response.status_code in {404, 405}, path
        assert "root:" not in response.text


def test_a_link_in_a_result_leads_nowhere(client, root, tmp_path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    (root / "case" / "audit.tsv").symlink_to(secret)
    (root / "linked").symlink_to(tmp_path, target_is_directory=True)
    assert client.get(f"/api/scans/{CASE}/files/audit.tsv").status_code == 404
    packed = client.get(f"/api/scans/{CASE}/result.zip").content
    assert b"audit.tsv" not in packed
    assert b"lesion_mask.nii.gz" in packed
    names = [row["name"] for row in client.get("/api/scans").json()["scans"]]
    assert names == ["case"]
