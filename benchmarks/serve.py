"""Load and kill campaigns for `infarct serve`.

    python benchmarks/serve.py load --scans 50
    python benchmarks/serve.py kills --kills 50 --seed 1

`load` uploads many scans at once while it measures how fast the page answers, and waits until all
are done. `kills` ends the server with SIGKILL at random moments while scans are uploaded, processed
and corrected, starts it again, and checks after every start that

- every result on the disk is complete and can be read back, with its checksums,
- every scan that was accepted is still there, as a job or as a result,
- every correction that was acknowledged is in the audit trail, and no other is there in part,
- the page answers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from infarct.core import assets
from infarct.reporting.reader import manual_work, read_stored
from infarct.web.editing import pack

TOKEN = uuid.uuid4().hex
MODEL = "cfuzzy"


class Server:
    """A server process on a folder."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "infarct", "serve", str(root), "--no-browser"]
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--token", TOKEN, "--model", MODEL],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        link = next(line for line in self.process.stdout if line.startswith("open: "))
        self.home = link.removeprefix("open: ").split("/?")[0]

    def call(self, path: str, method: str = "GET", body: Any = None, kind: str = "") -> Any:
        """Send a request and return the JSON of its answer."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind or "application/json"}
        request = urllib.request.Request(self.home + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=900) as response:
            return json.load(response)

    def upload(self) -> str:
        """Upload the demo scan; return the identifier once it is accepted."""
        body = b""
        for role in ("dwi", "b0"):
            head = f'name="files"; filename="{role}.nii.gz"'
            body += f"--X\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
            body += assets.path(f"demo/{role}").read_bytes() + b"\r\n"
        kind = "multipart/form-data; boundary=X"
        return str(self.call("/api/scans", "POST", body + b"--X--\r\n", kind)["id"])

    def rows(self) -> list[dict[str, Any]]:
        """Return the worklist."""
        rows: list[dict[str, Any]] = self.call("/api/scans")["scans"]
        return rows

    def memory_mb(self) -> float:
        """Return the resident memory of the server itself."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def kill(self) -> None:
        """End the server without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def load(root: Path, scans: int) -> None:
    """Upload scans at once and report response times, memory and losses."""
    server = Server(root)
    accepted: list[str] = []
    threads = [
        threading.Thread(target=lambda: accepted.append(server.upload())) for _ in range(scans)
    ]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    waits: list[float] = []
    memory = 0.0
    while True:
        before = time.monotonic()
        rows = server.rows()
        waits.append(time.monotonic() - before)
        memory = max(memory, server.memory_mb())
        uploading = any(thread.is_alive() for thread in threads)
        states = Counter(row["state"] for row in rows)
        if not uploading and not states.keys() & {"checking", "queued", "running"}:
            break
        time.sleep(1.0)
    server.kill()
    late = np.percentile(np.array(waits) * 1000, [50, 95, 99, 100])
    print(f"{len(accepted)} of {scans} accepted, {states['done']} done, states {dict(states)}")
    print(f"{time.monotonic() - start:.0f} s, server at most {memory:.0f} MB")
    print("worklist answered in ms (median, 95%, 99%, most):", *(f"{ms:.0f}" for ms in late))


class Campaign:
    """Kills a server again and again, and remembers what was promised."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.accepted: set[str] = set()
        self.saved: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.doing: Counter[str] = Counter()

    def work(self, server: Server, what: list[str]) -> None:
        """Upload, then correct finished scans, until the server is gone."""
        try:
            while True:
                what[0] = "upload"
                if len(self.accepted) < 6:
                    self.accepted.add(server.upload())
                for row in server.rows():
                    if row["state"] == "done":
                        what[0] = "saving"
                        self.correct(server, row["id"])
                what[0] = "processing"
                time.sleep(0.2)
        except (OSError, urllib.error.URLError, ValueError):
            return

    def correct(self, server: Server, scan: str) -> None:
        """Change one voxel of a mask."""
        stored = read_stored(self.root / self.name_of(server, scan))
        mask = stored.lesion.data.copy()
        mask[0, 0, 0] = not mask[0, 0, 0]
        version = server.call(f"/api/scans/{scan}/mask")["version"]
        self.attempts[scan] += 1
        reason = f"correction {self.attempts[scan]}"
        body = {"labels": pack(mask), "version": version, "by": "campaign", "reason": reason}
        server.call(f"/api/scans/{scan}/mask", "PUT", body)
        self.saved[scan] += 1

    def name_of(self, server: Server, scan: str) -> str:
        """Return the result folder of a scan, relative to the results."""
        return next(row["name"] for row in server.rows() if row["id"] == scan)

    def check(self, server: Server, after: int) -> None:
        """Compare the folder with what was promised."""
        rows = {row["id"]: row for row in server.rows()}
        if missing := self.accepted - rows.keys():
            self.faults.append(f"after kill {after}: accepted scans are missing: {missing}")
        for scan, row in rows.items():
            if row["state"] in {"failed", "damaged", "removed"}:
                self.faults.append(f"after kill {after}: {row['name']} {row['state']}")
            if row["state"] != "done":
                continue
            try:
                stored = read_stored(self.root / row["name"])
            except Exception as error:
                self.faults.append(f"after kill {after}: {row['name']}: {error}")
                continue
            lines = len(stored.summary.get("corrections", ()))
            if not self.saved[scan] <= lines <= self.attempts[scan]:
                text = f"{lines} corrections, {self.saved[scan]} acknowledged"
                self.faults.append(f"after kill {after}: {row['name']}: {text}")
            work = [each for each in manual_work(self.root / row["name"]) if "(not" in each]
            if work:
                self.faults.append(f"after kill {after}: {row['name']}: {work}")

    def run(self, kills: int) -> None:
        """Kill the server at random moments."""
        for number in range(1, kills + 1):
            server = Server(self.root)
            self.check(server, number - 1)
            what = ["start"]
            thread = threading.Thread(target=self.work, args=(server, what))
            thread.start()
            time.sleep(self.random.uniform(0.0, 20.0))
            self.doing[what[0]] += 1
            server.kill()
            thread.join()
            print(f"kill {number} during {what[0]}, {len(self.faults)} faults", flush=True)
        server = Server(self.root)
        self.check(server, kills)
        while any(row["state"] in {"checking", "queued", "running"} for row in server.rows()):
            time.sleep(1.0)
        self.check(server, kills)
        states = Counter(row["state"] for row in server.rows())
        server.kill()
        left = sorted(p.name for p in self.root.iterdir() if p.name.startswith("."))
        print(
            f"{kills} kills during {dict(self.doing)}; {len(self.accepted)} scans {dict(states)};"
        )
        print(f"{sum(self.saved.values())} corrections acknowledged; hidden entries left: {left}")
        print("faults:", *(self.faults or ["none"]), sep="\n  ")


def main() -> None:
    """Run a campaign in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("campaign", choices=("load", "kills"))
    parser.add_argument("--scans", type=int, default=50)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "results"
        if options.campaign == "load":
            load(root, options.scans)
        else:
            Campaign(root, options.seed).run(options.kills)


if __name__ == "__main__":
    main()
