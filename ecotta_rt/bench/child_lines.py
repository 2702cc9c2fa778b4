"""How a process of ours talks to its parent: JSON lines on stdout, and nothing else there."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Tell", "claim_stdout"]

Tell = Callable[[Mapping[str, Any]], None]
"""Sends one message to the parent."""


def claim_stdout() -> Tell:
    """Keep stdout for our lines alone: whatever a library prints goes to stderr."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: Mapping[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    return tell
