"""Which code wrote a bundle: a digest of the sources that decide what it holds."""

from pathlib import Path

from ecotta_rt.files.digest import sha256

__all__ = ["code_digest"]

_PACKAGE = Path(__file__).resolve().parents[1]
# What decides what a bundle holds; its figures come from the planner, of sessions set up in one way.
_ROOMS = ("method", "exporter", "prepare", "bundle", "plan", "session")
# The planner reads graphs by the files of `files/` that are named.
_FILES = ("options.py", "files/onnx_*.py", "files/protobuf.py")
_MAKERS = (*_FILES, *(f"{room}/**/*.py" for room in _ROOMS))


def code_digest(*also: str) -> str:
    """SHA-256 of the sources of those who make bundles, in hexadecimal; the same wherever the package lies.

    Args:
        also: Patterns of other sources in the package that decide what is asked about.
    """
    digest = sha256()
    for path in sorted(path for pattern in (*_MAKERS, *also) for path in _PACKAGE.glob(pattern)):
        # A checkout may have other line ends than a wheel.
        source = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {len(source)}\n".encode())
        digest.update(source)
    return str(digest.hexdigest())
