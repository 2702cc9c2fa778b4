"""Which extra brings a package that is not installed, so that an ImportError becomes advice."""

from ecotta_rt.errors import Unavailable

__all__ = ["EXTRAS", "how_to_install", "missing_package"]

EXTRAS = {
    "torch": "prepare",
    "onnx": "prepare",
    "onnxscript": "prepare",
    "scipy": "bench",
    "PIL": "pictures",
    "rich": "prepare",
    "matplotlib": "bench",
    "av": "camera",
    "paho": "mqtt",
    "apprise": "alerts",
    "flwr": "fleet",
}
"""Import name -> the extra that installs it. A test compares this with setup.cfg."""


def how_to_install(extra: str) -> str:
    """The command that brings an extra; it needs a checkout, since no package index has this package.

    >>> how_to_install("bench")
    "pip install '.[bench]' in a checkout of ecotta_rt"
    """
    return f"pip install '.[{extra}]' in a checkout of ecotta_rt"


def missing_package(error: ModuleNotFoundError, extra: str | None = None) -> Unavailable | None:
    """What to tell the user about a failed import.

    Args:
        error: As raised by the import.
        extra: What brings all that the program needs; None names the smallest extra that brings the package.

    Returns:
        An error naming the extra to install, or None where the missing module is none of an extra's: then it is a bug.

    >>> missing_package(ModuleNotFoundError(name="torch"))
    Unavailable("torch is not installed; it comes with: pip install '.[prepare]' in a checkout of ecotta_rt")
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    extra = extra or EXTRAS[package]
    return Unavailable(f"{package} is not installed; it comes with: {how_to_install(extra)}")
