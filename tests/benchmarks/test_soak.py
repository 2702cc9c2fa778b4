"""What the scripts that leave a daemon alone make of what they saw."""

from measure_soak import CAMERAS, frames_of, summary
from soak_tables import render_simulated_day, render_soak

ENVIRONMENT = {"cpu": "a CPU", "versions": {"onnxruntime": "1.0"}}


def line(frame, dropped=0, **fields):
    return {"camera": "sound", "frame": frame, "dropped": dropped, **fields}


def test_every_position_of_a_camera_is_answered_refused_lost_or_dropped():
    lines = [
        line(0),
        {"camera": "sound", "frame": 1, "refused": "rubbish"},
        {"camera": "sound", "event": "camera-lost", "frame": 2, "why": "lost"},
        {"camera": "sound", "event": "camera-back", "frame": 3},
        line(3),
        {"camera": "sound", "event": "drift", "frame": 3},
        line(6, dropped=1),
        {"event": "reloaded"},
    ]

    found = frames_of(lines)

    counts = {"positions": 7, "answered": 3, "refused_or_lost": 2, "dropped": 1, "not_counted": 1}
    assert found["sound"] == counts, "of positions 4 and 5 only one was counted"
    assert found["events"]["answer"] == 3
    assert found["events"]["refused"] == 1


def sampled(seconds, pss_mib):
    return {"seconds": seconds, "pss_mib": pss_mib, "threads": 14, "descriptors": 9, "cpu_s": seconds / 5}


def test_the_start_is_left_out_and_the_halves_are_compared():
    samples = [sampled(10, 99.0), *(sampled(120 + 10 * i, 50.0 + i // 6) for i in range(12))]

    told = summary([*samples, {"seconds": 240.0, "exit_code": 0, "ended_in_s": 1.0}])

    assert told["range_after_two_minutes"] == {"pss_mib": [50.0, 51.0], "threads": [14, 14], "descriptors": [9, 9]}
    assert told["pss_mib_growth"] == 1.0
    assert told["cpu_percent_of_a_core"] == 20.0
    assert len(told["samples"]) == 2, "one a minute"


def test_tables_say_what_was_counted():
    counts = {"positions": 7000, "answered": 3, "refused_or_lost": 2, "dropped": 1, "not_counted": 1}
    end = {"seconds": 240.0, "exit_code": 0, "ended_in_s": 1.0}
    samples = [sampled(120 + 10 * i, 50.0) for i in range(12)]
    report = {"about": {"bundle": "net", "cameras": CAMERAS, "environment": ENVIRONMENT}, **summary([*samples, end])}
    held = {"threads": 12, "descriptors": 8, "pss_mib": 50.0}
    day = {
        "about": report["about"],
        "hours": 24.04,
        "real_minutes": 5.0,
        "seen": {"losses": 10000, "failures": 1000, "reloads": 100, "answers": 7},
        "pss_mib_growth": 0.39,
        "before": held,
        "during": [held],
        "after": held,
    }

    assert "| sound | 7,000 | 3 | 2 | 1 | 1 |" in render_soak({**report, "frames": dict.fromkeys(CAMERAS, counts)})
    assert "| 24.0 | 10,000 | 1,000 | 100 | +0.39 | 0 | 0 |" in render_simulated_day(day)
