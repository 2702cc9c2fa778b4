"""`benchmarks/compare_seeds.py`, on runs written by hand."""

import json

import pytest

import compare_seeds


@pytest.fixture
def compare(tmp_path, capsys):
    """Runs the script on these runs; gives its exit code, its output and its complaint."""

    def run(*runs):
        paths = [tmp_path / f"seed-{place}.json" for place in range(len(runs))]
        for path, content in zip(paths, runs, strict=True):
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        code = compare_seeds.main([str(path) for path in paths])
        return code, *capsys.readouterr()

    return run


def make_run(seed, errors, corruptions=("fog", "snow"), **changes):
    row = {"engine": "torch", "batch": 64, "normalisation": "batch", "session_options": {"threads": 1}}
    figures = {"activation_bytes": 2**20, "ms_per_frame": 2.0, "errors": {"fog": 20.0, "snow": 24.96}}
    rows = [{"method": method, "error_percent": error, **row, **figures, **changes} for method, error in errors.items()]
    stream = {"name": "cifar-10-c", "frames": 100, "corruptions": list(corruptions), "severity": 5, "seed": seed}
    return {"stream": stream, "model": {"name": "wrn-40-2", "digest": "ab"}, "rows": rows}


def of_groups(digest, seed):
    return {**make_run(seed, {"ecotta-k4": 31}), "beside": {"ecotta-k4": digest}}


def test_differences_are_taken_within_each_seed(compare):
    code, out, _ = compare(make_run(0, {"tent": 30, "ecotta-k4": 20}), make_run(1, {"tent": 50, "ecotta-k4": 48}))

    assert code == 0
    assert "2 corruptions x 100 frames a run" in out
    assert "| tent | 40.00 | 30.00 50.00 | +6.00 | +10.00 +2.00 | 25.0 | 1.0 | 1.00 |" in out


def test_a_method_that_a_run_lacks_is_left_out_and_named(compare):
    code, out, _ = compare(make_run(0, {"tent": 30, "bn": 40}), make_run(1, {"tent": 31}))

    assert code == 0
    assert "left out, not in every run: bn" in out
    assert "| bn |" not in out


def test_methods_of_one_seed_may_come_from_several_runs(compare):
    runs = [make_run(0, {"tent": 30}), make_run(0, {"ecotta-k4": 20}), make_run(1, {"tent": 50, "ecotta-k4": 48})]

    code, out, _ = compare(*runs)

    assert code == 0
    assert "seeds 0, 1;" in out
    assert "| tent | 40.00 | 30.00 50.00 | +6.00 | +10.00 +2.00 | 25.0 | 1.0 | 1.00 |" in out

    assert "x TENT's time" in out
    assert "x TENT's time" not in compare(*runs[:2])[1], "times of different runs are not compared"


def test_a_method_with_another_step_is_another_method(compare):
    light = {"threads": 1, "l1_weight": 0.1}

    code, out, _ = compare(
        make_run(0, {"ecotta-k4": 20}),
        make_run(0, {"ecotta-k4": 19}, session_options=light),
        make_run(1, {"ecotta-k4": 21}),
        make_run(1, {"ecotta-k4": 19.5}, session_options=light),
    )

    assert code == 0
    assert "| ecotta-k4, lambda 0.1 | 19.25 | 19.00 19.50 | -1.25 | -1.00 -1.50 |" in out


def test_a_drawn_order_may_differ_between_seeds(compare):
    assert compare(make_run(0, {"tent": 30}), make_run(1, {"tent": 31}, corruptions=("snow", "fog")))[0] == 0


def test_runs_that_cannot_be_compared_are_refused_in_one_line(compare, subtests):
    for second, complaint in [
        (make_run(1, {"tent": 31}, corruptions=("fog",)), "another stream or model"),
        (make_run(1, {"tent": 31}, batch=32), "another batch or other options"),
        (make_run(1, {"tent": 31}, session_options={"threads": 2}), "another batch or other options"),
        (of_groups("ef", 1), "another file of ecotta-k4"),
        (make_run(0, {"tent": 31}), "tent with seed 0 is there twice"),
        ("{", "not all of these are written by ecotta-bench"),
        ({}, "not all of these are written by ecotta-bench"),
    ]:
        with subtests.test(complaint):
            code, out, err = compare(make_run(0, {"tent": 30}), of_groups("cd", 0), second)

            assert (code, out) == (2, "")
            assert complaint in err
            assert err.count("\n") == 1
