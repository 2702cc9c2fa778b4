"""Every way ecotta_rt says no, in one tree.

    EcottaError                         exit 1, a bug of ours when raised bare
    |- UsageError          (ValueError)     2   an argument that cannot be meant: unknown name, bad range
    |  |- NetworkError                      2   this network cannot be cut or adapted; names the node
    |- BudgetExceeded      (MemoryError)    3   it works, but not within this limit
    |- InputFileError      (ValueError)     4   a file that is truncated, hostile or of another kind
    |  |- CheckpointError                   4   a checkpoint whose keys or shapes do not match
    |- BadFrames           (ValueError)     4   frames that no step can use: NaN, another size, wrong dtype
    |- Unavailable         (RuntimeError)  69   a missing extra, package or device
    |- TransferError       (OSError)       74   reading or writing failed half-way
    |- ConfigurationError  (ValueError)    78   a configuration or device profile that contradicts itself

Each error has our base and, where one fits, a builtin one, so that callers may catch either.
A message says what failed, with which value, against which limit, and what to try next.
"""

__all__ = [
    "EXIT_INTERRUPTED",
    "BadFrames",
    "BudgetExceeded",
    "CheckpointError",
    "ConfigurationError",
    "EcottaError",
    "InputFileError",
    "NetworkError",
    "TransferError",
    "Unavailable",
    "UsageError",
]

EXIT_INTERRUPTED = 130
"""What a shell reports for a program ended by Ctrl-C (128 + SIGINT)."""


class EcottaError(Exception):
    """Base of all our errors; `exit_code` is what the commands return for it."""

    exit_code = 1


class UsageError(EcottaError, ValueError):
    """An argument that cannot be meant."""

    exit_code = 2


class NetworkError(UsageError):
    """A network that cannot be traced, cut or adapted."""


class BudgetExceeded(EcottaError, MemoryError):
    """More memory is needed than the limit allows.

    Attributes:
        need_bytes: What is needed.
        limit_bytes: What was allowed.
        largest_tenant: Name of the tensor or part that holds most of it.
    """

    exit_code = 3

    def __init__(self, message: str, *, need_bytes: int, limit_bytes: int, largest_tenant: str) -> None:
        super().__init__(message)
        self.need_bytes = need_bytes
        self.limit_bytes = limit_bytes
        self.largest_tenant = largest_tenant


class InputFileError(EcottaError, ValueError):
    """A file that is truncated, hostile or of another kind."""

    exit_code = 4


class CheckpointError(InputFileError):
    """A checkpoint whose keys or shapes do not match the network."""


class BadFrames(EcottaError, ValueError):
    """Frames that no step can use."""

    exit_code = 4


class Unavailable(EcottaError, RuntimeError):
    """A missing extra, package or device."""

    exit_code = 69


class TransferError(EcottaError, OSError):
    """Reading or writing failed half-way."""

    exit_code = 74


class ConfigurationError(EcottaError, ValueError):
    """A configuration or device profile that contradicts itself."""

    exit_code = 78
