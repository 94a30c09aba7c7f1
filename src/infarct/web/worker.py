"""The worker process of the server: reads tasks as lines of JSON, and answers with lines of JSON.

Images are read in this process, so that a damaged file cannot stop the server, and so that the
server answers while an image is being read. The process ends when its input closes, that is, when
the server ends for whatever reason.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from infarct.cohort.figures import native_thumbnail
from infarct.core.errors import InfarctError, MemoryShortageError, is_shortage
from infarct.core.nifti import read
from infarct.core.process_setup import prepared_process
from infarct.core.serialization import finite
from infarct.web.editing import EditConflictError, read_mask, save_edit
from infarct.web.input_checks import check_input
from infarct.web.readings import store_reading, summarise_readings


def draw_thumbnail(dwi: str, lesion: str) -> str:
    """Draw the thumbnail of a result; JPEG in base64."""
    return base64.b64encode(native_thumbnail(read(dwi), read(lesion))).decode()


TASKS: dict[str, Callable[..., Any]] = {
    "check_input": check_input,
    "draw_thumbnail": draw_thumbnail,
    "read_mask": read_mask,
    "save_edit": save_edit,
    "store_reading": store_reading,
    "summarise_readings": summarise_readings,
}
"""What the server may ask for."""


def answer(line: str) -> dict[str, Any]:
    """Run one task.

    Args:
        line: JSON with `task` and `arguments`.

    Returns:
        `{"result": ...}`, or `{"error": message, "kind": ...}` with the kinds `input` (rejected
        with a reason for the user), `conflict` and `internal`.
    """
    request = json.loads(line)
    try:
        return {"result": finite(TASKS[request["task"]](**request["arguments"]))}
    except EditConflictError as error:
        return {"error": str(error), "kind": "conflict"}
    except InfarctError as error:
        return {"error": str(error), "kind": "input"}
    except Exception as error:
        if is_shortage(error):
            return {"error": str(MemoryShortageError()), "kind": "input"}
        return {"error": f"internal error ({type(error).__name__})", "kind": "internal"}


def main() -> None:
    """Answer until the input closes."""
    # Libraries that print must not disturb the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The answer to a server that is gone is of no use.
    with prepared_process(), suppress(BrokenPipeError):
        for line in sys.stdin:
            answers.write(json.dumps(answer(line)) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
