import subprocess
import sys

import pytest
import torch

from ecotta_rt.bench.peers import DEFAULT_METHODS, METHODS, build_method, expand
from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, 1).eval()


def test_reading_the_list_of_methods_imports_no_torch():
    code = (
        "import sys; from ecotta_rt.bench.peers import METHODS, expand; expand(['all']); print('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_each_method_says_by_which_graph_onnxruntime_runs_it():
    graphs = {name: entry.graph for name, entry in METHODS.items() if entry.graph is not None}

    assert graphs == {
        "source": "forward",
        "tent": "step",
        "ecotta-k4": "step",
        "ecotta-k5": "step",
        "ecotta-k4-constant": "step",
        "ecotta-k4-warmed": "predict",
        "ecotta-k4-followed": "predict",
    }


def test_the_design_names_these_methods():
    assert list(METHODS) == [
        "source",
        "bn",
        "tent",
        "tent-episodic",
        "eata",
        "cotta",
        "rotta",
        "note",
        "sar",
        "lame",
        "roid",
        "rdumb",
        "ecotta-k4",
        "ecotta-k5",
        "ecotta-k4-constant",
        "ecotta-k4-warmed",
        "ecotta-k4-followed",
        "oracle-k4",
        "tent-fine-tuned",
    ]


def test_the_default_has_what_tells_methods_apart_and_a_control_and_not_cotta():
    assert DEFAULT_METHODS == ("source", "bn", "tent", "eata", "ecotta-k4", "ecotta-k4-warmed")
    assert expand() == DEFAULT_METHODS


def test_all_means_all_and_a_name_twice_counts_once():
    assert expand(["all"]) == tuple(METHODS)
    assert expand(["eata", "tent", "eata"]) == ("eata", "tent")
    assert set(expand(["tent", "all"])) == set(METHODS)


@pytest.mark.parametrize(
    ("written", "nearest"), [("tnet", "tent"), ("ecotta", "ecotta-k4"), ("TENT", "tent"), ("coata", "cotta")]
)
def test_an_unknown_method_is_answered_with_the_list_and_the_nearest(written, nearest):
    with pytest.raises(UsageError, match=f"unknown method '{written}', known are source, bn, .*did you mean {nearest}"):
        expand([written])


def test_a_name_like_no_other_gets_the_list_alone():
    with pytest.raises(UsageError, match=r"and all$"):
        expand(["xyz"])


def test_building_an_unknown_method_fails_like_listing_it():
    with pytest.raises(UsageError, match="unknown method 'tnet'"):
        build_method("tnet", _network(), classes=10)


def test_an_option_reaches_the_method_and_changes_its_step():
    frames = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    slow, fast = (build_method("tent", _network(), classes=10, learning_rate=rate) for rate in (0.0, 1e-2))
    first = slow(frames), fast(frames)

    assert torch.equal(slow(frames), first[0])
    assert not torch.equal(fast(frames), first[1])


@pytest.mark.parametrize("option", ["momentum", "name", "seed_", "episodic"])
def test_an_option_that_the_method_has_not_is_refused_and_its_own_are_named(option):
    with pytest.raises(UsageError, match=rf"tent-episodic has no option {option}; its options are: learning_rate"):
        build_method("tent-episodic", _network(), classes=10, **{option: 1})


def test_a_method_without_options_says_none():
    with pytest.raises(UsageError, match="its options are: none"):
        build_method("bn", _network(), classes=10, learning_rate=1.0)
