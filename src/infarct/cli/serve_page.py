"""Implement `infarct serve`: prepare the folder, print the link, and serve the page."""

from __future__ import annotations

import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from infarct.core.errors import AssetError, SettingError

if TYPE_CHECKING:
    from infarct.web.site import Settings

DEMO = "demo"
"""Name of the demo scan in the worklist."""

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_SHORTEST_TOKEN = 16


def serve_page(
    settings_of: dict[str, object], host: str, port: int, token: str | None, *, browser: bool
) -> None:
    """Serve until interrupted.

    Args:
        settings_of: Arguments of `Settings` other than the access rules.
        host: Address to listen on.
        port: Port; 0 for any free one.
        token: Secret that the users must know; random if None.
        browser: Open the page in the browser.

    Raises:
        SettingError: If the server would be reachable from other computers without a token, or the
            token is too short.
        AssetError: If the extra `web` is not installed.
        OutputError: If the port is taken.
    """
    check_access(host, token)
    try:
        from infarct.web import security, server
        from infarct.web.site import Settings
    except ModuleNotFoundError as error:
        raise AssetError(
            f"infarct serve needs the package {error.name}; install it with "
            "pip install '.[web]' in your clone"
        ) from error
    opened = server.listen(host, port)
    port = opened.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    hosts = security.LOOPBACK if host in _LOOPBACK else (*security.LOOPBACK, name)
    access = security.Access(port, hosts, token) if token else security.Access(port, hosts)
    settings: Settings = Settings(access=access, **settings_of)  # type: ignore[arg-type]
    link = f"http://{name}:{port}/?token={access.token}"

    def ready() -> None:
        console = Console()
        console.print(f"results: {settings.root}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"open: {link}", markup=False, highlight=False, soft_wrap=True)
        console.print("press Ctrl-C to stop", style="dim")
        if not server.VIEWER.is_file():
            console.print(f"note: {server.NO_VIEWER}", style="yellow", markup=False)
        if browser:
            webbrowser.open(link)

    server.serve(settings, opened, ready)


def check_access(host: str, token: str | None) -> None:
    """Check that patients' images are not offered to other computers by accident.

    Raises:
        SettingError: If another address than that of this computer is given without a token, or
            the token is too short.
    """
    if host not in _LOOPBACK and token is None:
        raise SettingError(
            f"--host {host} makes the page reachable from other computers, and it shows patient "
            "images; add --token with a secret, and put an HTTPS proxy in front of it"
        )
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii()):
        raise SettingError(
            f"--token has {len(token)} characters; use at least {_SHORTEST_TOKEN} ASCII "
            "characters, for example those that `openssl rand -hex 16` prints"
        )


def prepare_demo(root: Path, model: str) -> None:
    """Segment the bundled synthetic scan into the folder of the server, unless it is there.

    Raises:
        AssetError: If the segmentation fails.
    """
    out = root / DEMO
    if (out / "manifest.json").is_file():
        return
    root.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "infarct", "demo", "--out", str(out), "--model", model]
    if subprocess.run(command, check=False).returncode:
        shutil.rmtree(out, ignore_errors=True)
        raise AssetError("the demo scan could not be segmented; the message above says why")
