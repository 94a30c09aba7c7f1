"""Access control of the local server: token, host, origin, and response headers.

The server holds patient images and runs on a computer on which the user also browses the web. Any
page can make the browser send requests to it, so a request is answered only if

- its `Host` is an address under which the server was started (DNS rebinding),
- its `Origin`, if any, is the server itself, and a request of a browser is not cross-site (CSRF),
- it carries the random token, as a cookie or as `Authorization: Bearer TOKEN`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Host names of this computer, as they appear in the `Host` header."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self' data:; font-src 'self' data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""Content security policy of the page. NiiVue decodes its built-in font from `data:` URLs."""

REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""Policy of a report: its script runs in an origin of its own, without access to the server."""

_SAFE = {"GET", "HEAD"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}
_NO_TOKEN = (
    "This page needs the link that `infarct serve` printed when it was started: open that link, or "
    "send the token as `Authorization: Bearer TOKEN`."
)


@dataclass(frozen=True)
class Access:
    """Who may use the server.

    Attributes:
        port: Port of the server.
        hosts: Host names under which it may be addressed, without the port.
        token: Secret of this run.
    """

    port: int
    hosts: tuple[str, ...] = LOOPBACK
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers share cookies between the ports of a host."""
        return f"infarct-{self.port}"

    def knows_host(self, host: str) -> bool:
        """Return whether a `Host` header names this server."""
        return host.lower() in {f"{name}:{self.port}" for name in self.hosts} | (
            set(self.hosts) if self.port == 80 else set()
        )

    def is_token(self, candidate: str) -> bool:
        """Compare a token in constant time."""
        return secrets.compare_digest(candidate.encode(), self.token.encode())


class Guard:
    """ASGI middleware that answers requests without access itself.

    Args:
        app: The application behind it.
        access: Who may use it.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with the reason why not."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", PAGE_POLICY)
            await send(message)

        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._access.knows_host(host):
            return PlainTextResponse(
                "This server answers only to the address that it printed.", status_code=421
            )
        if not _same_origin(headers, host, scope["method"]):
            return PlainTextResponse("Requests from other web pages are refused.", status_code=403)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["path"] == "/" and scope["method"] == "GET" and "token" in query:
            return self._sign_in(query)
        if not any(map(self._access.is_token, _tokens(headers, self._access.cookie))):
            if scope["path"].startswith("/api/"):
                return JSONResponse({"error": _NO_TOKEN}, status_code=401)
            return PlainTextResponse(_NO_TOKEN, status_code=401)
        return None

    def _sign_in(self, query: dict[str, list[str]]) -> Response:
        """Exchange the token in the link for a cookie, so that it does not stay in the address."""
        if not self._access.is_token(query["token"][0]):
            return PlainTextResponse(_NO_TOKEN, status_code=401)
        rest = {name: values for name, values in query.items() if name != "token"}
        response = RedirectResponse("/" + (f"?{urlencode(rest, doseq=True)}" if rest else ""), 303)
        response.set_cookie(
            self._access.cookie, self._access.token, httponly=True, samesite="strict", path="/"
        )
        return response


def _same_origin(headers: Headers, host: str, method: str) -> bool:
    """Return whether a request comes from the page itself, a program or the address bar."""
    site = headers.get("sec-fetch-site", "none")
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return False
    if site in {"none", "same-origin"}:
        return True
    # A link in another page or program may open the page, but nothing else.
    return method in _SAFE and headers.get("sec-fetch-mode") == "navigate"


def _tokens(headers: Headers, cookie: str) -> Iterable[str]:
    """Yield the tokens of a request."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        yield value.strip()
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == cookie:
            yield value
