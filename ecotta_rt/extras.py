"""Which extra brings a package that is not installed, so that an ImportError becomes advice."""

from ecotta_rt.errors import Unavailable

__all__ = ["EXTRAS", "missing_package"]

EXTRAS = {
    "torch": "prepare",
    "onnx": "prepare",
    "onnxscript": "prepare",
    "scipy": "bench",
    "PIL": "pictures",
    "rich": "bench",
    "matplotlib": "bench",
    "av": "camera",
}
"""Import name -> the extra that installs it. A test compares this with setup.cfg."""


def missing_package(error: ModuleNotFoundError) -> Unavailable | None:
    """What to tell the user about a failed import.

    Args:
        error: As raised by the import.

    Returns:
        An error naming the extra to install, or None where the missing module is none of an extra's: then it is a bug.

    >>> missing_package(ModuleNotFoundError(name="torch"))
    Unavailable("torch is not installed; it comes with: pip install 'ecotta_rt[prepare]'")
    """
    package = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return None
    return Unavailable(f"{package} is not installed; it comes with: pip install 'ecotta_rt[{extra}]'")
