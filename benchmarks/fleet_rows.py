"""The rows of a stage of measure_fleet.py, in a file that is written after each."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.files.atomic import write_atomic
from fleet_trial import CHOOSING, DOMAINS, SEVERITY, Sizes

__all__ = ["Rows"]


class Rows:
    """The rows of a stage, in a file that is written after each.

    Args:
        path: Of the file.
        stage: What they are of.
        args: What was asked for.

    Raises:
        SystemExit: The file has rows of another network or of other sizes.
    """

    def __init__(self, path: Path, stage: str, args: argparse.Namespace) -> None:
        self._path, self._measures = path, args.measures
        about: dict[str, Any] = {"bundle": args.bundle.name, "sha256": sha256_of(args.bundle)}
        if stage != "speed":
            sizes = asdict(Sizes(args.stream, args.held, args.start))
            domains = [board.domain for board in CHOOSING] if stage.startswith("choose") else [*DOMAINS]
            about |= {"severity": SEVERITY, "domains": domains, **sizes}
        self._report: dict[str, Any] = {"measured": f"fleet {stage}", "about": about}
        self._report |= {"environment": asdict(read_environment(1)), "rows": []}
        if path.exists():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            if earlier["about"] != about:
                raise SystemExit(f"{path} was measured with {earlier['about']}, not {about}; name another --out")
            self._report["rows"] = earlier["rows"]

    def add(self, about: Mapping[str, Any], measured: Callable[[], Mapping[str, Any]]) -> None:
        """Measure a row and keep it, unless it is there.

        Args:
            about: What tells it from the others.
            measured: Makes the rest of it.
        """
        if about.get("measure") not in (None, *self._measures):
            return
        if any(about.items() <= row.items() for row in self._report["rows"]):
            return
        row = {**about, **measured()}
        self._report["rows"].append(row)
        write_atomic(self._path, (json.dumps(self._report, indent=1) + "\n").encode())
        print(json.dumps(row), flush=True)
