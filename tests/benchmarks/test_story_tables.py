"""The table of measure_story.py."""

import sys

import pytest


@pytest.fixture(scope="module")
def render_story(checkout):
    sys.path.insert(0, str(checkout / "benchmarks"))
    try:
        from story_tables import render_story
    finally:
        sys.path.remove(str(checkout / "benchmarks"))
    return render_story


def tried(peak_mib, killed=0):
    return {"exit": 3 * killed, "killed": killed, "group_peak_bytes": peak_mib << 20}


def network(error, ms, batches):
    by_seed = {str(seed): {"all": error + seed, "seen": error, "new": error + 2} for seed in range(3)}
    return {
        "errors": {"continual, unfiltered": by_seed, "sorted, filtered": by_seed},
        "process_peak_bytes": 80 << 20,
        "ms_per_frame": {"follows": ms, "learns": 2 * ms},
        "batches": batches,
        "environment": {"cpu": "a processor", "versions": {"onnxruntime": "1.2", "python": "3.4"}},
    }


def test_a_row_a_network_says_what_it_buys_and_costs(render_story):
    rows = {
        "teacher-own": network(20.0, 8.0, {"64": tried(154), "128": tried(190, killed=1)}),
        "student": network(25.0, 2.0, {"64": tried(90), "128": tried(150)}),
    }
    about = {"limit_bytes": 200_000_000, "seen": ["fog"], "frames": 200}

    lines = render_story({"about": about, "rows": rows}).splitlines()

    assert lines[2] == (
        "| teacher, ResNet-56 | 21.0 ± 1.0 | 20.0 ± 0.0 | 22.0 ± 0.0 | 21.0 ± 1.0 | 8.0 | 16.0 | 80 "
        "| 64 (154 MiB; 128 is killed) |"
    )
    assert lines[3].endswith("| 2.0 | 4.0 | 80 | 128 (150 MiB) |")
    assert "the streams' seeds 0, 1, 2" in lines[5] and "200 MB (191 MiB)" in lines[5]
