"""The web application, and the function that serves it."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from infarct.core.errors import InfarctError, OutputError
from infarct.reporting.pages import TEMPLATES
from infarct.web import reading_routes, scan_routes
from infarct.web.scan_routes import error_body
from infarct.web.security import Guard
from infarct.web.site import Settings, Site, status_of

STATIC = Path(__file__).parent / "static"
VIEWER = STATIC / "niivue.js"
"""Bundle of the viewer library, made when the package is built."""

NO_VIEWER = (
    "The image viewer is missing from this installation, because NiiVue could not be bundled when "
    "infarct was installed. Reinstall infarct with access to the npm registry, or run `make web` "
    "in a clone of the repository. Everything except the viewer works without it."
)

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


def make_app(settings: Settings) -> ASGIApp:
    """Return the application, guarded by the access rules.

    Args:
        settings: Settings of the server.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        site = Site(settings)
        app.state.site = site
        await site.start()
        try:
            yield
        finally:
            await site.close()

    app = Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/static/{name}", static, methods=["GET"]),
            Route("/api/openapi.json", openapi, methods=["GET"]),
            *scan_routes.ROUTES,
            *reading_routes.ROUTES,
        ],
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _answer_http,
            InfarctError: _answer_expected,
            Exception: _answer_unexpected,
        },
    )
    return Guard(app, settings.access)


async def page(_: Request) -> Response:
    """Answer with the page."""
    return _static("index.html")


async def openapi(_: Request) -> Response:
    """Answer with the description of the REST API."""
    return _static("openapi.json")


async def static(request: Request) -> Response:
    """Answer with a file of the page."""
    name = request.path_params["name"]
    if name in {"style.css", "report.css"}:
        # The page and the report share their style sheets.
        return FileResponse(TEMPLATES / name, media_type=_KINDS[".css"])
    if name == "niivue.js" and not VIEWER.is_file():
        raise HTTPException(404, NO_VIEWER)
    return _static(name)


def _static(name: str) -> Response:
    known = {path.name: path for path in STATIC.iterdir() if path.suffix in _KINDS}
    if name not in known:
        raise HTTPException(404, "there is no such page")
    return FileResponse(known[name], media_type=_KINDS[known[name].suffix])


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(error), status_code=error.status_code)


async def _answer_expected(_: Request, error: Exception) -> Response:
    assert isinstance(error, InfarctError)
    return JSONResponse(error_body(error), status_code=status_of(error))


async def _answer_unexpected(_: Request, error: Exception) -> Response:
    # The message may quote a path or a header; the type does not.
    text = f"internal error ({type(error).__name__}); nothing was changed"
    return JSONResponse({"error": text}, status_code=500)


def listen(host: str, port: int) -> socket.socket:
    """Open the port.

    Args:
        host: Address to listen on.
        port: Port; 0 for any free one.

    Raises:
        OutputError: If the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except OSError as error:
        opened.close()
        raise OutputError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); another server may "
            "be running: open its page, or choose another --port"
        ) from error
    return opened


def serve(settings: Settings, opened: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until interrupted.

    Args:
        settings: Settings of the server.
        opened: From `listen`.
        ready: Called once the server answers.
    """
    # Addresses of requests contain scan identifiers and, once, the token: nothing is logged.
    logging.getLogger("uvicorn.access").disabled = True
    config = uvicorn.Config(
        make_app(settings),
        access_log=False,
        log_level="error",
        server_header=False,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=64 * 1024,
        timeout_keep_alive=30,
    )
    _Server(config, ready).run(sockets=[opened])


class _Server(uvicorn.Server):
    """Calls a function once it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report it."""
        await super().startup(sockets)
        if self.started:
            self._ready()
