"""Draw an activation profile as plain text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ecotta_rt.messages import in_columns

if TYPE_CHECKING:  # the report comes from the side that imports torch
    from ecotta_rt.profile.profile_report import ActivationReport, KeptStorage

__all__ = ["profile_table"]

_MIB = 2**20
_SHOWN_KEPT = 10
_SHOWN_OTHERS = 5


def profile_table(report: "ActivationReport", limit_bytes: int | None = None) -> str:
    """A report as text: the peaks, bytes by part, and the largest tensors. Sizes in MiB (2^20 bytes)."""
    blocks = [_peaks(report, limit_bytes)]
    if report.tenants:
        blocks += [_parts(report), _kept(report)]
    others = [tenant for tenant in report.step_tenants if not tenant.kept_by]
    if others:
        blocks.append(_others(others))
    return "\n\n".join(blocks)


def _peaks(report: "ActivationReport", limit_bytes: int | None) -> str:
    rows = [("kept for the backward", _mib(report.activation_bytes), f"at {report.peak_at}" if report.peak_at else "")]
    if limit_bytes is not None:
        rows.append(("limit for that", _mib(limit_bytes), f"{_mib(limit_bytes - report.activation_bytes)} MiB left"))
    where = f"at {report.step_peak_at}" if report.step_peak_at else ""
    rows.append(("all tensors of the step", _mib(report.step_peak_bytes), where))
    return in_columns([(name, f"{size} MiB", note) for name, size, note in rows], right={1})


def _parts(report: "ActivationReport") -> str:
    rows = [("part", "MiB", "share")]
    rows += [(part, _mib(size), f"{size / report.activation_bytes:.1%}") for part, size in report.by_part.items()]
    return in_columns(rows, right={1, 2})


def _kept(report: "ActivationReport") -> str:
    shown = report.tenants[:_SHOWN_KEPT]
    rows = [("MiB", "shape", "type", "largest kept tensors, made by", "kept by")]
    rows += [(_mib(t.bytes), _shape(t), t.dtype, t.name, t.kept_by) for t in shown]
    return in_columns(rows, right={0}) + _rest(report.tenants[_SHOWN_KEPT:])


def _others(others: Sequence["KeptStorage"]) -> str:
    rows = [("MiB", "shape", "type", "largest others at the step's peak, kept by no backward, made by")]
    rows += [(_mib(t.bytes), _shape(t), t.dtype, t.name) for t in others[:_SHOWN_OTHERS]]
    return in_columns(rows, right={0}) + _rest(others[_SHOWN_OTHERS:])


def _rest(tenants: Sequence["KeptStorage"]) -> str:
    if not tenants:
        return ""
    return f"\nand {len(tenants)} more, {_mib(sum(tenant.bytes for tenant in tenants))} MiB together"


def _shape(tenant: "KeptStorage") -> str:
    return "x".join(map(str, tenant.shape)) or "scalar"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.1f}"
