"""Compare the results of two versions file by file, to show that a change alters no output.

    python benchmarks/compare_results.py BEFORE AFTER [--renamed renamed.json]

BEFORE and AFTER are folders with the same result folders below. Times, versions, checksums and the
command are ignored. `renamed.json` maps old to new names of fields, columns and codes. Images are
compared by their decompressed bytes; pages, pictures and the methods text by their existence only,
because they show times and names.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infarct.core.serialization import as_json

_SHOWN = {".html", ".png", ".jpg", ".md", ".tex", ".bib", ".dcm"}
_IGNORED = {"seconds", "infarct", "python", "libraries", "command", "created", "files", "assets"}


def content(path: Path, renamed: Mapping[str, str]) -> Any:
    """Return what two versions of a file must have in common."""
    if path.suffix in _SHOWN:
        return "exists"
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".json":
        return _plain(json.loads(path.read_text(encoding="utf-8")), renamed)
    if path.suffix == ".tsv":
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream, delimiter="\t")
        return [[renamed.get(name, name) for name in header], *rows]
    return path.read_bytes()


def _plain(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        named = {renamed.get(key, key): item for key, item in value.items()}
        return {key: _plain(item, renamed) for key, item in named.items() if key not in _IGNORED}
    if isinstance(value, list):
        return [_plain(item, renamed) for item in value]
    return renamed.get(value, value) if isinstance(value, str) else value


def differences(before: Path, after: Path, renamed: Mapping[str, str]) -> Iterator[str]:
    """Yield every file that one folder lacks or that differs, with what differs."""
    names = {
        path.relative_to(folder).as_posix()
        for folder in (before, after)
        for path in folder.rglob("*")
        if path.is_file()
    }
    for name in sorted(names):
        old, new = before / name, after / name
        if not (old.is_file() and new.is_file()):
            yield f"{name}: only {'before' if old.is_file() else 'after'}"
            continue
        was, now = content(old, renamed), content(new, renamed)
        if was != now:
            keys = (
                [key for key in {*was, *now} if was.get(key) != now.get(key)]
                if isinstance(was, dict)
                else []
            )
            detail = as_json({key: [was.get(key), now.get(key)] for key in sorted(keys)})
            yield f"{name}: differs{f' {detail}' if keys else ''}"


def main() -> None:
    """Print the differences; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--renamed", type=Path)
    options = parser.parse_args()
    renamed = json.loads(options.renamed.read_text()) if options.renamed else {}
    found = list(differences(options.before, options.after, renamed))
    print("\n".join(found) or "no differences")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
