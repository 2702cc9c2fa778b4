"""Files that options of an output name and that it reads: certificates and keys."""

import os
from dataclasses import fields

from ecotta_rt.errors import UsageError
from ecotta_rt.sinks.kinds import SinkOptions

__all__ = ["check_files"]


def check_files(options: SinkOptions, name: str) -> None:
    """Say before the start that a file is missing.

    Args:
        options: Of the output; fields whose names end in `_file` are looked at.
        name: Of the output.

    Raises:
        UsageError: There is no such file, or it may not be read.
    """
    for field in fields(options):
        path = getattr(options, field.name)
        if not field.name.endswith("_file") or path is None:
            continue
        if not os.path.isfile(path) or not os.access(path, os.R_OK):
            raise UsageError(f"output {name}: {field.name} {path}: no such file, or none that may be read")
