"""SHA-256 without OpenSSL.

`hashlib` loads OpenSSL's library even where Python has an implementation of its own: 3.6 MiB, in a process that has 90.
The results are the same.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["sha256"]


def _find() -> Callable[..., Any]:
    # Python 3.12 and newer; 3.11; any other.
    for module in ("_sha2", "_sha256", "hashlib"):
        try:
            found: Callable[..., Any] = import_module(module).sha256
        except (ImportError, AttributeError):
            continue
        return found
    raise ImportError("this Python has no SHA-256")


sha256 = _find()
