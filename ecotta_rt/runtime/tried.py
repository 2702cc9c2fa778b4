"""Which bundles have been tried on this machine, so that each is tried once: see `ecotta_rt.runtime.trial`."""

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ecotta_rt._version import __version__
from ecotta_rt.bundle import read_bundle
from ecotta_rt.files.digest import sha256
from ecotta_rt.runtime.trial import Trial, try_bundle

__all__ = ["remembered_in", "try_once"]

_MOST = 256
_LINE = 65  # a digest and its line break


def remembered_in() -> Path:
    """The file of the digests of what was tried: `ecotta/tried` in the user's cache folder."""
    home = os.path.expanduser("~")
    cache = f"{home}/.cache" if home != "~" else os.devnull  # a user without a home: nothing can be remembered
    return Path(os.environ.get("XDG_CACHE_HOME") or cache, "ecotta", "tried")


def try_once(path: str | Path, ways: Mapping[str, Any]) -> Trial | None:
    """Try a bundle, unless these graphs were tried this way before, with this ecotta_rt and this onnxruntime.

    Args:
        path: The bundle.
        ways: See `try_bundle`.

    Returns:
        What it took; None where it was tried before. Where the file cannot be written it is tried each time.

    Raises:
        InputFileError, BudgetExceeded, UsageError: As `try_bundle`.
    """
    key = _key(path, ways)
    file = remembered_in()
    known: list[str] = []
    with suppress(OSError, ValueError), file.open(encoding="ascii") as lines:
        known = lines.read(_MOST * _LINE).split()
    if key in known:
        return None
    trial = try_bundle(path, ways)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([*known[-_MOST + 1 :], key, ""]), encoding="ascii")
    return trial


def _key(path: str | Path, ways: Mapping[str, Any]) -> str:
    """Of all that is in the bundle, since its manifest has the digests of the rest."""
    try:
        onnxruntime = version("onnxruntime")
    except PackageNotFoundError:
        onnxruntime = "unknown"
    manifest = read_bundle(path, verify=False).manifest.to_json()
    text = "\n".join([__version__, onnxruntime, repr(sorted(ways.items())), manifest])
    return str(sha256(text.encode()).hexdigest())
