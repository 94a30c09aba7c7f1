"""A server in this process, with one result, for all tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from infarct.reporting.writer import write_results
from infarct.segmentation.result import Segmentation
from infarct.web.security import Access
from infarct.web.server import make_app
from infarct.web.site import Settings
from infarct.web.store import scan_id

TOKEN = "a-token-that-is-long-enough"
PORT = 8321
HOME = f"http://127.0.0.1:{PORT}"
CASE = scan_id("case")
"""Identifier of the result called `case`."""


@pytest.fixture(scope="session")
def written_quick(quick: Segmentation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the quick result once; a test that changes it works on a copy."""
    return write_results(quick, tmp_path_factory.mktemp("web") / "case")


@pytest.fixture
def root(written_quick: Path, tmp_path: Path) -> Path:
    """Folder of a server with one result, `case`."""
    folder = tmp_path / "results"
    shutil.copytree(written_quick, folder / "case")
    return folder


def started_client(settings: Settings) -> TestClient:
    """Start a server in this process, and return a client with the token."""
    client = TestClient(
        make_app(settings),
        base_url=HOME,
        headers={"Authorization": f"Bearer {TOKEN}"},
        raise_server_exceptions=False,
        follow_redirects=False,
    )
    client.__enter__()
    return client


@pytest.fixture
def serve() -> Iterator[Callable[[Settings], TestClient]]:
    """Start servers that end with the test."""
    started: list[TestClient] = []

    def start(settings: Settings) -> TestClient:
        client = started_client(settings)
        started.append(client)
        return client

    yield start
    for client in started:
        client.__exit__(None, None, None)


@pytest.fixture
def client(root: Path, serve: Callable[[Settings], TestClient]) -> TestClient:
    """Client of a server with one result, signed in with the token."""
    return serve(Settings(root, Access(PORT, token=TOKEN)))


@pytest.fixture(scope="module")
def visitor(written_quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Client of a server with one result, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("visited")
    shutil.copytree(written_quick, folder / "case")
    client = started_client(Settings(folder, Access(PORT, token=TOKEN)))
    yield client
    client.__exit__(None, None, None)
