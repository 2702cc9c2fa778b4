"""Which code wrote a bundle: a digest of the sources that decide what it holds."""

from pathlib import Path

from ecotta_rt.digest import sha256

__all__ = ["code_digest"]

_PACKAGE = Path(__file__).resolve().parents[2]
_MAKERS = ("prepare", "bundle")  # packages whose code decides what a bundle holds


def code_digest() -> str:
    """SHA-256 of the sources of `prepare` and `bundle`, in hexadecimal; the same wherever the package lies."""
    digest = sha256()
    for path in sorted(path for package in _MAKERS for path in (_PACKAGE / package).rglob("*.py")):
        # A checkout may have other line ends than a wheel.
        source = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {len(source)}\n".encode())
        digest.update(source)
    return str(digest.hexdigest())
