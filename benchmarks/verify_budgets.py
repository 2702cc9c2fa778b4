"""Work out with `verify` what was measured: the second of the three figures that stand side by side.

    python benchmarks/measure_budgets.py
    python benchmarks/verify_budgets.py          a second or two a row

For each row of benchmarks/results/budgets/measured.json: the floor that nothing can be below, the expected peak, and
their ratios to the measured one. Written to benchmarks/results/budgets/verified.json. Rows whose bundle is another one
by now are left out.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bundle import Bundle, read_bundle
from ecotta_rt.verifier.process import measure_start
from ecotta_rt.verifier.verify import Verified, verify
from ecotta_rt.whole_file import write_whole

HERE = Path(__file__).parent
CASES = HERE / "bundles" / "cases"
RESULTS = HERE / "results" / "budgets"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=RESULTS / "measured.json")
    parser.add_argument("--out", type=Path, default=RESULTS / "verified.json")
    args = parser.parse_args(argv)
    rows, bundles, known = [], dict[str, Bundle](), dict[tuple[object, ...], Verified]()
    for row in json.loads(args.measured.read_text(encoding="utf-8"))["rows"]:
        name = f"{row['network']}.{row['normalisation']}.ecotta"
        if name not in bundles:
            bundles[name] = read_bundle(CASES / name, verify=False)
        entry = bundles[name].manifest.graph(row["graph"])
        if entry is None or entry.sha256 != row["graph_sha256"]:
            print(f"{row['name']}: left out: measured with another bundle", file=sys.stderr)
            continue
        how = {key: row["session_options"][key] for key in ("optimisation", "memory")}
        key = (name, row["graph"], *how.values())
        if key not in known:
            known[key] = verify(bundles[name], row["graph"], frames=row["batch"], **how)
        rows.append(verified_row(row, known[key]))
        print(f"{row['name']}: expected / measured {rows[-1]['expected_over_measured']}", flush=True)
    report = {
        "verified": "budgets",
        "environment": vars(read_environment(1)),
        "start": vars(measure_start()),
        "rows": rows,
    }
    write_whole(args.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def verified_row(row: dict[str, Any], found: Verified) -> dict[str, Any]:
    return {
        "name": row["name"],
        "floor_bytes": found.floor_bytes,
        "load_bytes": found.load_bytes,
        "peak_bytes": found.peak_bytes,
        "tensors_bytes": found.tensors_bytes,
        "live_bytes": found.lives.live_bytes,
        "parts": vars(found.parts),
        "tenants": [{"name": one.name, "op_type": one.op_type, "bytes": one.size_bytes} for one in found.tenants[:3]],
        "floor_over_measured": round(found.floor_bytes / row["peak_bytes"], 3),
        "expected_over_measured": round(found.peak_bytes / row["peak_bytes"], 3),
    }


if __name__ == "__main__":
    sys.exit(main())
