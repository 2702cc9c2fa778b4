"""What a pick is asked for, checked before torch is imported."""

from pathlib import Path

from ecotta_rt.errors import UsageError

__all__ = ["check_pick"]

_SUFFIX = ".safetensors"


def check_pick(bank: Path | None, out: Path, *, ms: float, tries: int, parts: int) -> Path:
    """Refuse what no bank can give.

    Args:
        bank: Its file, if it has one.
        out: Where the network shall go.
        ms: Milliseconds a frame; infinite for any.
        tries: Random narrowings for each budget.
        parts: K.

    Returns:
        `out` without suffix.

    Raises:
        UsageError: One of them cannot be, or the network or its bundle would replace the bank.
    """
    if out.suffix != _SUFFIX:
        raise UsageError(f"out {out}: give a {_SUFFIX} file")
    if not ms > 0:  # NaN, too
        raise UsageError(f"ms {ms:g}: milliseconds, above 0")
    if tries < 0:
        raise UsageError(f"tries {tries}: 0 or more")
    if parts < 1:
        raise UsageError(f"parts {parts}: at least 1")
    stem = out.with_name(out.name.removesuffix(_SUFFIX))
    for path in (out, stem.with_name(f"{stem.name}.ecotta")):
        if bank is not None and path.resolve() == bank.resolve():
            raise UsageError(f"out {path} is the bank itself; choose another name")
    return stem
