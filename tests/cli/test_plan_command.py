import json

import pytest

from ecotta_rt.cli.main import main


@pytest.fixture
def bundle(tiny):
    return str(tiny.bundle("running"))


def test_a_plan_says_how_to_run_it_and_what_it_needs(bundle, capsys):
    assert main(["plan", bundle, "--device", "raspberry-pi-zero-2w"]) == 0

    said = capsys.readouterr().out
    assert "on Raspberry Pi Zero 2 W: fits, " in said
    assert "step-1: 1 frame a step; threads 2, optimisation extended, memory arena" in said
    parts = ("interpreter", "onnxruntime", "live tensors", "while running", "while loading")
    for part in (*parts, "Largest tensors of step-1"):
        assert part in said


def test_the_json_has_the_plan_and_the_timeline(bundle, tmp_path):
    target = tmp_path / "plan.json"

    assert main(["plan", bundle, "--device", "raspberry-pi-4-2gb", "--batch", "4", "--json", str(target), "--all"]) == 0

    plain = json.loads(target.read_text())
    assert plain["fits"] is True
    assert plain["step"]["graphs"] == ["step-4"]
    assert max(plain["live_bytes"]) > 0
    assert len(plain["alternatives"]) > 2


def test_json_on_standard_output_is_all_there_is(bundle, capsys):
    assert main(["plan", bundle, "--device", "this-machine", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["schema"] == 1


def test_what_does_not_fit_is_exit_code_3_and_still_shown(bundle, capsys):
    assert main(["plan", bundle, "--device", "pixel", "--limit", "20MiB"]) == 3

    said = capsys.readouterr()
    assert "DOES NOT FIT" in said.out
    assert "pixel allows 20 MiB" in said.err
    assert "largest part" in said.err


def test_every_way_is_listed_when_asked_for(bundle, capsys):
    assert main(["plan", bundle, "--device", "raspberry-pi-4-2gb", "--batch", "4", "--all"]) == 0

    said = capsys.readouterr().out
    for way in ("step-4: 4 frames", "accumulate + update: 4 frames a step, one frame after the other"):
        assert way in said


def test_it_can_be_planned_anew_with_this_processors_kernels(bundle, capsys):
    assert main(["plan", bundle, "--device", "this-machine", "--here"]) == 0
    said = capsys.readouterr().out
    assert "fits" in said
    assert "Tried here: " in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "raspberry-pi-zero-2w", "--batch", "0"], "--batch 0: give 1 or more"),
        (["--device", "raspberry-pi-zero-2w", "--threads", "0"], "--threads 0: give 1 or more"),
        (["--device", "raspberry-pi-zero-2w", "--limit", "1e9"], "'1e9' is not a size"),
        (["--device", "raspberry-pi-9"], "unknown device 'raspberry-pi-9'"),
    ],
)
def test_a_mistake_is_one_line(bundle, capsys, arguments, said):
    assert main(["plan", bundle, *arguments]) == 2

    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("options", "kind"), [((), "step"), (("--no-adapt",), "predict")])
def test_a_batch_that_the_bundle_is_not_made_for_is_named_with_those_it_is(tiny, capsys, options, kind):
    bundle = str(tiny.bundle("batch"))

    assert main(["plan", bundle, "--device", "raspberry-pi-zero-2w", "--batch", "3", *options]) == 2
    assert f"no {kind} for 3 frames; it has 4" in capsys.readouterr().err


def test_a_bundle_of_the_first_version_is_planned_too(checkout, capsys):
    """It has no figures; the command works them out."""
    bundle = str(checkout / "tests" / "hostile" / "first-version.ecotta")

    assert main(["plan", bundle, "--device", "pixel"]) == 0
    assert "on Google Pixel" in capsys.readouterr().out


def test_a_missing_bundle_is_a_bad_file(capsys):
    assert main(["plan", "nowhere.ecotta", "--device", "pixel"]) == 4
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "graph"),
    [
        ((), "step-1"),
        (("--learning", "on"), "step-1"),
        (("--learning", "off"), "observe-1"),
        (("--no-adapt",), "observe-1"),
    ],
)
def test_a_plan_is_for_learning_where_the_bundle_learns_or_where_asked(tiny, capsys, options, graph):
    bundle = str(tiny.bundle("running"))

    assert main(["plan", bundle, "--device", "pixel", "--batch", "1", *options]) == 0
    assert graph in capsys.readouterr().out
