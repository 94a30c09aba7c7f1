"""The exceptions of `infarct` and their exit codes.

Every message states what was found, what was expected and what to do.
"""


class InfarctError(Exception):
    """Base class of all errors.

    Attributes:
        exit_code: Exit status of the command line.
    """

    exit_code = 1


class InputFileError(InfarctError):
    """An input file is missing, truncated, or not an image of a known format."""

    exit_code = 3


class GeometryError(InfarctError):
    """An image has the wrong number of axes, an invalid affine, or does not overlap the others."""

    exit_code = 4


class ContentError(InfarctError):
    """The content of an image cannot be diffusion MRI of a head."""

    exit_code = 5


class OutputError(InfarctError):
    """Results cannot be written to the requested location."""

    exit_code = 6


class AssetError(InfarctError):
    """A file bundled with the package is missing or damaged."""

    exit_code = 7


class RegistrationError(InfarctError):
    """The registration of the head to the template failed."""

    exit_code = 8


class CohortError(InfarctError):
    """A cohort is incomplete: cases failed, or no worker is running."""

    exit_code = 9


class MemoryShortageError(InfarctError, MemoryError):
    """The memory available to this process is not sufficient."""

    exit_code = 11

    def __init__(
        self,
        message: str = (
            "not enough memory; close other programs or raise the memory limit (ulimit -v, or that "
            "of the job or container). The network that needs the least is --model fcn-ch2-slices"
        ),
    ) -> None:
        super().__init__(message)


class SettingError(InfarctError):
    """An environment variable has an invalid value."""

    exit_code = 12


class FollowUpError(InfarctError):
    """Two scans cannot be compared: same scan, wrong order, another patient or body part."""

    exit_code = 13


class SelfTestError(InfarctError):
    """The self-test of `infarct doctor` failed: the installation gives no or a wrong result."""

    exit_code = 14


class TrainingError(InfarctError):
    """A training run diverged: the loss is not finite."""

    exit_code = 10


_SHORTAGE = (
    *("bad_alloc", "bad allocation", "failed to allocate", "cannot allocate memory"),
    *("failed to map segment from shared object", "can't start new thread"),
)


def is_shortage(error: BaseException) -> bool:
    """Return whether an error was caused by lack of memory; many libraries raise other types."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(words in message for words in _SHORTAGE)
