"""What one check found."""

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Finding", "Status", "ok", "problem", "warning"]

Status = Literal["ok", "warning", "problem"]
"""`problem`: it will not work like this. `warning`: it works, and somebody should know."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        about: What was looked at, a word or two.
        status: One of `Status`.
        says: What is the case, in plain words and with the figures.
        advice: What to try; empty where nothing needs to be done.
    """

    about: str
    status: Status
    says: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """The finding as plain values."""
        return asdict(self)


def ok(about: str, says: str) -> Finding:
    """All is well."""
    return Finding(about, "ok", says)


def warning(about: str, says: str, advice: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(about, "warning", says, advice)


def problem(about: str, says: str, advice: str) -> Finding:
    """It will not work like this."""
    return Finding(about, "problem", says, advice)
