"""The files of a run beside OUT.safetensors."""

from pathlib import Path

__all__ = ["beside"]


def beside(out: Path, *kind: str) -> Path:
    """OUT.KIND, or OUT.KIND.KIND: `beside(out, "teacher-1", "safetensors")`."""
    return out.with_name(".".join([out.name, *kind]))
