"""Accept the arguments of a BIDS App in the forms that other BIDS Apps accept."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from typer.core import TyperCommand


class BidsAppCommand(TyperCommand):
    """Accepts several values after one `--participant_label`, as other BIDS Apps do.

    Click does not support options with a variable number of values, so the option is repeated
    before each value.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat a list option before each of its values; keep the positional arguments."""
        return super().parse_args(ctx, _repeat_options(args, _LISTS, self._with_value()))

    def _with_value(self) -> set[str]:
        options = (param for param in self.params if not getattr(param, "is_flag", True))
        return {name for option in options for name in option.opts}


LEVELS = {"participant", "group"}
_LISTS = {"--participant-label", "--participant_label", "--session-label", "--session_label"}


def _repeat_options(args: Sequence[str], lists: Set[str], with_value: Set[str]) -> list[str]:
    """Rewrite `--label 01 02` as `--label 01 --label 02`.

    A list of values ends at the next option. If BIDS_DIR and OUT_DIR are still missing, the last
    words before the level are these arguments: `--label 01 02 BIDS_DIR OUT_DIR participant`.

    Args:
        args: Command-line arguments.
        lists: Options with any number of values.
        with_value: Options with one value.
    """
    runs: list[tuple[str, list[str]]] = []
    for word in args:
        option = runs[-1][0] if runs else ""
        if word.startswith("-") and word != "-":
            runs.append((word, []))
        elif option in lists or (option in with_value and not runs[-1][1]):
            runs[-1][1].append(word)
        else:
            # After a flag or the value of another option: a positional argument.
            runs.append(("", [word]))
    missing = 3 - sum(len(words) for option, words in runs if not option)
    expanded: list[str] = []
    for option, words in runs:
        kept = words
        if option in lists:
            ends = words[-1:] and words[-1] in LEVELS
            taken = min(missing, len(words) - 1) if ends else 0
            kept, missing = words[: len(words) - taken], missing - taken
            labels = [label for word in kept for label in word.split()]
            expanded += [part for label in labels for part in (option, label)] or [option]
            expanded += words[len(kept) :]
        else:
            expanded += [option, *words] if option else words
    return expanded
