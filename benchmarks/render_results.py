"""Write the result tables of README.md anew from the JSON files in benchmarks/results/.

    ecotta-bench --memory --json benchmarks/results/fashion-mnist-c.json
    python benchmarks/render_results.py

A table stands between `<!-- BEGIN RESULTS: NAME -->` and `<!-- END RESULTS: NAME -->` and comes from NAME.json, which
is what `ecotta-bench --memory --json` wrote. A test fails when a table and its file differ.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- BEGIN RESULTS: (\S+) -->\n)(.*?)(<!-- END RESULTS: \2 -->)", re.DOTALL)

HEADER = (
    "| method | error % | activations MiB | live tensors, peak MiB | process growth MiB | step time, x TENT "
    "| learns |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def render(report: dict[str, Any]) -> str:
    """One table in Markdown, and under it what, where and with what it was measured."""
    tent = next((row["ms_per_frame"] for row in report["rows"] if row["method"] == "tent"), None)
    lines = [HEADER]
    for row in report["rows"]:
        growth = row["process_peak_bytes"] - row["process_baseline_bytes"]
        cells = [
            row["method"],
            f"{row['error_percent']:.1f}",
            *(f"{size / 2**20:.1f}" for size in (row["activation_bytes"], row["step_peak_bytes"], growth)),
            f"{row['ms_per_frame'] / tent:.2f}" if tent else "",
            f"{row['trainable_parameters']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    stream, environment = report["stream"], report["environment"]
    versions = environment["versions"]
    lines += [
        "",
        f"{report['model']['name']}, {stream['name']}: {len(stream['corruptions'])} corruptions x "
        f"{stream['frames']} frames, severity {stream['severity']}, batch {report['rows'][0]['batch']}, "
        f"seed {stream['seed']}. {environment['cpu']}, {environment['threads']} threads, "
        f"torch {versions['torch']}, Python {versions['python']}. "
        "One seed on one machine is an observation, not a result.",
        "",
    ]
    return "\n".join(lines)


def rendered(text: str, results: Path) -> str:
    """`text` with every block whose file exists written anew."""

    def write(match: re.Match[str]) -> str:
        file = results / f"{match[2]}.json"
        body = render(json.loads(file.read_text())) if file.is_file() else match[3]
        return f"{match[1]}{body}{match[4]}"

    return BLOCK.sub(write, text)


def main() -> int:
    readme = REPOSITORY / "README.md"
    readme.write_text(rendered(readme.read_text(), REPOSITORY / "benchmarks" / "results"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
