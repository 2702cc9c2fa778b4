import io
import re

from ecotta_rt.bench.memory_cage import CageRecord
from ecotta_rt.bench.report import print_report
from ecotta_rt.bench.results import Enforced, Failure, LatencyRow, Times, compared


def printed(report, file=None):
    file = io.StringIO() if file is None else file
    print_report(report, file)
    return file.getvalue()


def test_a_piped_table_is_plain_text_in_columns(row, report):
    text = printed(report(row("source", error_percent=48.2), row("ecotta-k4", error_percent=25.94)))

    assert "\x1b" not in text
    title, unit, first, second = text.splitlines()[2:6]
    assert title.index("error") + len("error") == unit.index("%") + 1
    assert first.index("48.20") == second.index("25.94")


def test_every_line_with_memory_has_its_error(row, report):
    lines = printed(report(row("tent"))).splitlines()

    (line,) = [line for line in lines if line.startswith("tent")]
    assert re.findall(r"\S+", line) == "tent batch 27.34 344.0 400.0 540.0 330.0 860.0 15.00 3.00 5,408".split()


def test_footnotes_tell_what_the_figures_depend_on(row, report):
    text = printed(report(row("tent")))

    for fact in ("a processor", "torch 2.13.0", "fashion-mnist-c", "batch 64", "seed 7", "threads: 2", "abab"):
        assert fact in text
    assert "one seed (7) on one machine is an observation, not a result" in text


def test_an_option_in_which_methods_differ_is_told_by_method(row, report):
    options = [{"threads": 2}, {"threads": 2, "gradient": "exact"}, {"threads": 2, "gradient": "constant"}]

    text = printed(report(*(row(name, session_options=held) for name, held in zip("abc", options, strict=True))))

    assert "options: threads 2, gradient exact (b) and constant (c)\n" in text


def test_a_device_gets_a_column(row, report):
    small, large = row("tent", fits={"my-board": False}), row("bn", fits={"my-board": True})

    lines = printed(report(small, large)).splitlines()

    assert any("my-board" in line for line in lines)
    assert [line.split()[-1] for line in lines if line.startswith(("tent", "bn"))] == ["no", "yes"]


def test_many_devices_are_listed_below_the_table(row, report):
    fits = {"tent": {"a": False, "b": True, "c": False}, "bn": {"a": True, "b": True, "c": False}}

    text = printed(report(*(row(method, fits=devices) for method, devices in fits.items())))

    assert "  a  bn\n  b  all\n  c  none\n" in text


def test_a_method_without_a_result_is_told_beside_the_others(row, report):
    text = printed(report(row("tent"), failures=(Failure("cotta", "its process was killed", 1),), complete=False))

    assert "cotta: no result: its process was killed" in text


def test_a_run_without_rows_prints_no_table(report):
    text = printed(report(complete=False))

    assert "activations" not in text
    assert "wrn-40-2" in text


def test_planned_memory_of_onnxruntime_is_told_apart_from_measured(row, report):
    text = printed(report(row("ecotta-k4", engine="onnx")))

    assert "batch 64, engine onnx" in text
    assert "activations and step peak are planned" in text
    assert "planned" not in printed(report(row("tent")))


def test_a_hard_limit_is_told_with_whom_the_kernel_killed(row, report):
    held = {"bn": CageRecord(420 * 2**20, 0), "tent": CageRecord(512_000_000, 1), "old": CageRecord(None, 0)}
    rows = (row("bn"), row("old"))

    text = printed(report(*rows, enforced=Enforced(512_000_000, "iphone-13", held), complete=False))

    assert "enforced: 512 MB (488.3 MiB), the default limit of iphone-13, by a control group without swap" in text
    assert "; killed: tent\n" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith(("bn ", "old "))] == ["420.0", "-"]
    assert "cage peak: most that the control group" in text
    assert "cage" not in printed(report(row("bn")))


def test_a_limit_that_killed_nobody_says_so(row, report):
    text = printed(report(row("bn"), enforced=Enforced(512_000_000, None, {"bn": CageRecord(1, 0)})))

    assert "enforced: 512 MB (488.3 MiB), by a control group without swap; killed: none\n" in text


def raced(report, batch=1, **changes):
    rows = (
        LatencyRow("forward", "onnx", batch, 2, "source", Times(6.0, 6.0), 1, 2**27, {}),
        LatencyRow("ecotta-k4", "onnx", batch, 2, "running", Times(18.0, 18.0), 1, 2**28, {}),
        LatencyRow("tent", "torch", batch, 2, "batch", Times(36.0, 36.0), 1, None, {}),
    )
    return printed(report(*compared(rows), **{"measured": "latency", "rounds": 3, **changes}))


def test_each_row_of_a_race_has_its_time_and_both_ratios(report):
    lines = raced(report).splitlines()

    assert any(line.split() == "1 2 onnx ecotta-k4 running 18.00 18.00 3.00 0.50 1 256.0".split() for line in lines)
    assert any(line.split() == "1 2 torch tent batch 36.00 36.00 6.00 1.00 1".split() for line in lines)


def test_a_race_tells_its_rounds_and_the_machine(report):
    text = raced(report)

    assert "\x1b" not in text
    for fact in ("a processor", "torch 2.13.0", "abab", "3 rounds", "fashion-mnist-c"):
        assert fact in text


def test_a_peer_at_one_frame_comes_with_a_warning(report):
    assert "collapse" in raced(report, batch=1)
    assert "collapse" not in raced(report, batch=2)


def test_who_has_no_result_in_a_race_and_who_is_left_out_are_told(report):
    changes = {"failures": (Failure("torch cotta, batch 1", "killed", 1),), "left_out": {"torch bn": "one frame"}}

    text = raced(report, **changes)

    assert "torch cotta, batch 1: no result: killed" in text
    assert "torch bn: left out: one frame" in text
