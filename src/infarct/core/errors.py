"""Everything `infarct` can raise on purpose, with the exit code each one ends a command with.

A message says what was seen, what was expected and what to do next.
"""


class InfarctError(Exception):
    """Base of all errors a caller may want to catch.

    Attributes:
        exit_code: Exit status of the command line when this error ends it.
    """

    exit_code = 1


class InputFileError(InfarctError):
    """An input file is missing, truncated, or not an image of a known format."""

    exit_code = 3


class GeometryError(InfarctError):
    """An image has the wrong number of axes, an impossible affine, or lies elsewhere in space."""

    exit_code = 4


class ContentError(InfarctError):
    """An image was read, but what it shows cannot be the diffusion MRI of a head."""

    exit_code = 5


class OutputError(InfarctError):
    """Results cannot be written where the caller asked for them."""

    exit_code = 6


class AssetError(InfarctError):
    """A file that ships with the package is missing or damaged."""

    exit_code = 7


class RegistrationError(InfarctError):
    """The head could not be brought onto the template."""

    exit_code = 8


class CohortError(InfarctError):
    """A cohort is not finished: cases of it failed, or nobody is there to work on it."""

    exit_code = 9


class MemoryShortageError(InfarctError, MemoryError):
    """The memory this process may use does not suffice."""

    exit_code = 11

    def __init__(
        self,
        message: str = (
            "there is not enough memory; close other programs or raise the limit (ulimit -v, or "
            "that of the job or container). Of the networks, --model fcn-ch2 needs the least"
        ),
    ) -> None:
        super().__init__(message)


class SettingError(InfarctError):
    """An environment variable has a value that cannot be used."""

    exit_code = 12


class TrainingError(InfarctError):
    """A training has run away: its loss is no longer a number."""

    exit_code = 10


_SHORTAGE = (
    *("bad_alloc", "bad allocation", "failed to allocate", "cannot allocate memory"),
    *("failed to map segment from shared object", "can't start new thread"),
)


def is_shortage(error: BaseException) -> bool:
    """Tell whether a library raised this because memory ran out; many do not raise MemoryError."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _SHORTAGE)
