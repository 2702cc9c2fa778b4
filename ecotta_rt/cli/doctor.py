"""Look whether this machine can run us, and say in plain words what to do where it cannot.

Each line is ok, a warning (it works, and somebody should know) or a problem (it will not work like this). onnxruntime
is tried in a process of its own, so that an illegal instruction is a line of the report and not the end of it.

examples:
  ecotta doctor
  ecotta doctor --device raspberry-pi-zero-2w     is this that board, and are its figures true here?
  ecotta doctor --quick --state /var/lib/ecotta   a health check: starts no onnxruntime, looks for no camera
  ecotta doctor --json

exit codes:
  0 no problem, 69 at least one
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ecotta_rt._version import __version__
from ecotta_rt.errors import Unavailable
from ecotta_rt.machine.doctor.examination import examine
from ecotta_rt.machine.doctor.finding import Finding
from ecotta_rt.messages import show

__all__ = ["NAME", "SCHEMA", "add_arguments", "run"]

NAME = "doctor"
SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ecotta doctor`."""
    add = parser.add_argument
    add("--device", metavar="ID", help="compare with this device's profile: see ecotta devices")
    add("--quick", action="store_true", help="only checks that are cheap in memory and time")
    here = "where learned states will be saved (default: here)"
    add("--state", metavar="FOLDER", type=Path, default=Path(), help=here)
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Examine and report."""
    profile = None
    if args.device is not None:
        from ecotta_rt.machine.device import load_device

        profile = load_device(args.device)
    findings = examine(Path(os.path.realpath(args.state)), quick=args.quick, profile=profile)
    healthy = all(finding.status != "problem" for finding in findings)
    if args.json:
        report = {
            "schema": SCHEMA,
            "ecotta_rt": __version__,
            "healthy": healthy,
            "findings": [finding.as_json() for finding in findings],
        }
        print(json.dumps(report, indent=2))
    else:
        show(_text(findings))
    return 0 if healthy else Unavailable.exit_code


def _text(findings: Sequence[Finding]) -> str:
    width = max(len(finding.about) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<8} {finding.about:<{width}}  {finding.says}")
        if finding.advice:
            lines.append(f"{'':<8} {'':<{width}}  try: {finding.advice}")
    counts = [(status, sum(finding.status == status for finding in findings)) for status in ("problem", "warning")]
    told = ", ".join(f"{count} {status}{'' if count == 1 else 's'}" for status, count in counts if count)
    return "\n".join([*lines, "", told or "No problems."])
