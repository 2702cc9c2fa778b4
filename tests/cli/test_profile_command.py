import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.cli.main import main
from ecotta_rt.errors import UsageError
from ecotta_rt.files.sizes import byte_size

OWN_NETWORK = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))

def map_out():
    return nn.Conv2d(3, 4, 3)

def fails():
    raise ValueError("not today")

def number():
    return 7
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own_network.py"
    path.write_text(OWN_NETWORK)
    return str(path)


def profile(*arguments: object) -> int:
    return main(["profile", *map(str, arguments)])


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert profile(*arguments, "--json") == 0
    read: dict[str, object] = json.loads(capsys.readouterr().out)
    return read


def test_the_table_tells_peak_place_parts_and_tensors(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile(f"{own}:build", "--batch", 2, "--size", "8x8", "--limit", "1MiB") == 0

    shown = capsys.readouterr().out
    assert "train step, frames 2x3x8x8" in shown
    assert "kept for the backward" in shown
    assert "all tensors of the step" in shown
    assert "limit for that" in shown
    assert "0:convolution" in shown
    assert "forward pass" in shown
    assert all(ord(character) < 128 for character in shown)


def test_bare_json_prints_one_object_and_nothing_else(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    read = report(capsys, f"{own}:build", "--batch", 2, "--size", "3x8x8")

    features = 2 * 4 * 6 * 6
    log_probabilities, total_weight, norm = 2 * 2, 1, 4 + 4
    assert read["activation_bytes"] == 4 * (features + features + log_probabilities + total_weight + norm)
    assert read["step"] == "train"
    assert read["frames"] == [2, 3, 8, 8]
    assert read["limit_bytes"] is None
    assert read["schema"] == 1


def test_json_goes_to_a_file_beside_the_table(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.json"

    assert profile(f"{own}:build", "--batch", 2, "--size", "8x8", "--json", target) == 0

    assert "kept for the backward" in capsys.readouterr().out
    assert json.loads(target.read_text())["network"] == f"{own}:build"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["own_network.py", "report.json"]


def test_json_in_what_is_no_folder_is_refused_before_any_work(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile(f"{own}:build", "--batch", 2, "--size", "8x8", "--json", f"{own}/r.json") == 2
    assert f"r.json: there is no folder {own}" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["train", "tent", "forward", "ecotta"])
def test_every_step_runs_on_a_model_of_ours(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    read = report(capsys, "resnet-20", "--batch", 2, "--size", "16x16", "--step", step)

    kept = read["activation_bytes"]
    assert isinstance(kept, int)
    assert (kept == 0) == (step == "forward")


def test_the_ecotta_step_keeps_less_than_tent(capsys: pytest.CaptureFixture[str]) -> None:
    kept = {}
    for step in ("tent", "ecotta"):
        kept[step] = report(capsys, "resnet-20", "--batch", 2, "--step", step)["activation_bytes"]

    assert kept["ecotta"] < 0.5 * kept["tent"]  # type: ignore[operator]


def test_options_of_the_ecotta_step_reach_it(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("resnet-20", "--batch", 2, "--step", "ecotta", "--normalisation", "running")

    whole = report(capsys, *common, "--parts", 3)
    by_frame = report(capsys, *common, "--parts", 3, "--frame-by-frame")

    assert {part for part in whole["by_part"] if part.startswith("groups")} == {"groups.0", "groups.1", "groups.2"}  # type: ignore[attr-defined]
    assert by_frame["activation_bytes"] < whole["activation_bytes"]  # type: ignore[operator]


def test_a_dry_run_gives_the_figures_without_computing(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("resnet-20", "--batch", 2, "--size", "16x16", "--step", "tent")

    assert report(capsys, *common, "--dry")["activation_bytes"] == report(capsys, *common)["activation_bytes"]


def test_more_than_the_limit_exits_with_3_and_names_the_largest_tenant(capsys: pytest.CaptureFixture[str]) -> None:
    assert profile("resnet-50", "--batch", 64, "--dry", "--limit", "200MiB") == 3

    message = capsys.readouterr().err
    assert "over the limit of 200.0 MiB" in message
    assert "conv1:convolution" in message


def test_a_device_gives_its_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert profile("resnet-50", "--batch", 64, "--dry", "--device", "raspberry-pi-zero-2w") == 3
    assert profile("resnet-50", "--batch", 64, "--dry", "--device", "no-such-board") == 2

    assert "no-such-board" in capsys.readouterr().err


def test_classes_belong_to_a_model_id(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile("resnet-20", "--batch", 1, "--size", "16x16", "--classes", 100) == 0
    assert profile(f"{own}:build", "--batch", 2, "--size", "8x8", "--classes", 100) == 2

    assert "--classes 100" in capsys.readouterr().err


def test_a_checkpoint_is_loaded_and_must_fit(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fits, other = tmp_path / "fits.pt", tmp_path / "other.pt"
    torch.save({"1.weight": torch.zeros(2, 192), "1.bias": torch.zeros(2)}, fits)
    torch.save({"1.weight": torch.zeros(2, 100), "1.bias": torch.zeros(2)}, other)
    common = (f"{own}:flat", "--batch", 2, "--size", "8x8", "--checkpoint")

    assert profile(*common, fits) == 0
    assert profile(*common, other) == 4
    assert "other.pt" in capsys.readouterr().err


def test_a_factory_may_live_in_a_package_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "profiled_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "networks.py").write_text(OWN_NETWORK)
    monkeypatch.chdir(tmp_path)

    assert report(capsys, "profiled_package.networks:flat", "--batch", 2, "--size", "8x8")["step"] == "train"


def test_a_mistake_is_one_line_with_exit_code_2(capsys, subtests):
    for arguments, message in [
        (("nope", "--batch", 2), "unknown network 'nope'"),
        (("resnet-20", "--batch", 0), "--batch 0"),
        (("resnet-20", "--batch", 10**9), "--batch 1000000000"),
        (("resnet-20", "--batch", 2, "--size", "32"), "--size 32"),
        (("resnet-20", "--batch", 2, "--size", "0x32"), "--size 0x32"),
        (("resnet-20", "--batch", 2, "--size", "4x32x32"), "fails on frames 2x4x32x32"),
        (("resnet-20", "--batch", 2, "--limit", "much"), "'much' is not a size"),
        (("resnet-20", "--batch", 2, "--parts", 4), "--parts goes with --step ecotta"),
        (("resnet-20", "--batch", 2, "--step", "ecotta", "--parts", 99), "99 parts"),
        (("resnet-20", "--batch", 2, "--step", "ecotta", "--kernel", 2), "kernel=2"),
        (("resnet-20", "--batch", 2, "--step", "ecotta", "--kernel", 0), "kernel=0"),
        (("resnet-20", "--batch", 2, "--limit", "1MiB", "--device", "jetson-nano"), "give one of them"),
        (("resnet-20", "--batch", 1, "--step", "ecotta"), "running"),
        (("resnet-20", "--batch", 2, "--step", "ecotta", "--dry"), "--dry"),
        (("resnet-20", "--batch", 2, "--step", "ecotta", "--frame-by-frame"), "frame_by_frame"),
        (("nowhere.py:build", "--batch", 2), "no such file: nowhere.py"),
        (("no_such_package.module:build", "--batch", 2), "can't be imported"),
    ]:
        with subtests.test(arguments=arguments):
            assert profile(*arguments) == 2

            captured = capsys.readouterr()
            assert message in captured.err
            assert captured.err.count("\n") == 1
            assert captured.out == ""


def test_a_network_of_ones_own_that_cannot_be_used_is_explained(own, capsys, subtests):
    for factory, step, message in [
        ("missing", "train", "no function or class 'missing'"),
        ("fails", "train", "fails() raised ValueError: not today"),
        ("number", "train", "returned a int"),
        ("map_out", "train", "a loss needs logits"),
        ("flat", "tent", "no BatchNorm"),
    ]:
        with subtests.test(factory=factory, step=step):
            assert profile(f"{own}:{factory}", "--batch", 2, "--size", "8x8", "--step", step) == 2

            assert message in capsys.readouterr().err


def test_a_file_that_does_not_compile_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def build(:\n")

    assert profile(f"{broken}:build", "--batch", 2) == 2
    assert "SyntaxError" in capsys.readouterr().err


@given(st.integers(1, 10**12), st.sampled_from([("", 1), ("KiB", 2**10), (" MiB", 2**20), ("gb", 10**9)]))
def test_a_size_is_a_number_times_its_unit(number: int, unit: tuple[str, int]) -> None:
    assert byte_size(f"{number}{unit[0]}") == number * unit[1]


@given(st.text(max_size=40))
def test_any_other_text_is_refused_as_a_size_or_is_at_least_a_byte(text: str) -> None:
    try:
        size_bytes = byte_size(text)
    except UsageError:
        return
    assert size_bytes >= 1
