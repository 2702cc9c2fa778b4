import hashlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from ecotta_rt.bench import plan as plan_module
from ecotta_rt.bench import request as request_module
from ecotta_rt.bench.peers import DEFAULT_METHODS, registry
from ecotta_rt.bench.plan import make_plan
from ecotta_rt.bench.request import Request
from ecotta_rt.cli.bench_options import bench_parser, bench_request
from ecotta_rt.errors import EcottaError, Unavailable, UsageError


@pytest.fixture
def asked(tmp_path, checkout, monkeypatch):
    """A request that can be met: the embedded images, and a few letters where networks should be."""
    (tmp_path / "data").symlink_to(checkout / "benchmarks" / "data")
    (tmp_path / "networks").mkdir()
    for kind in ("", ".ecotta-k4", ".ecotta-k5", ".fine-tuned"):
        (tmp_path / "networks" / f"wrn-40-2-fashion-mnist{kind}.safetensors").write_text(kind)
    monkeypatch.setenv("ECOTTA_ASSETS", str(tmp_path))
    return Request()


def methods_of(plan):
    return tuple(case.method for case in plan.cases)


def test_without_a_word_the_default_set_runs_on_64_frames(asked):
    plan = make_plan(asked)

    assert methods_of(plan) == DEFAULT_METHODS
    assert "cotta" not in methods_of(plan)
    assert plan.request.frames == 64
    assert plan.left_out == {}


def test_no_batch_is_said_to_be_larger_than_the_frames_of_a_corruption(asked):
    plan = make_plan(replace(asked, frames=8))

    assert (plan.cases[0].batch, plan.request.frames) == (8, 8)


def test_each_method_gets_the_file_it_needs(asked, tmp_path):
    plan = make_plan(replace(asked, methods=("all",)))

    names = {case.method: Path(case.resource).name.split(".")[1] for case in plan.cases if case.resource}
    assert names == {
        "ecotta-k4": "ecotta-k4",
        "ecotta-k4-constant": "ecotta-k4",
        "ecotta-k5": "ecotta-k5",
        "ecotta-k4-warmed": "ecotta-k4",
        "oracle-k4": "ecotta-k4",
        "tent-fine-tuned": "fine-tuned",
    }


def test_a_run_tells_which_groups_it_started_from(asked):
    plan = make_plan(replace(asked, methods=("source", "ecotta-k4", "ecotta-k4-warmed", "tent-fine-tuned")))

    assert plan.beside() == {
        kind: hashlib.sha256(f".{kind}".encode()).hexdigest() for kind in ("ecotta-k4", "fine-tuned")
    }


def test_only_hyperparameters_that_were_given_are_asked_for():
    def asked_for(*words):
        return bench_request(bench_parser().parse_args(["--memory", *words])).hyperparameters

    assert asked_for() == {}
    assert asked_for("--l1-weight", "0") == {"l1_weight": 0.0}
    assert asked_for("--l1-weight", "0.1", "--step-lr", "0.01") == {"l1_weight": 0.1, "lr": 0.01}


def test_what_cannot_be_meant_is_refused_before_any_work(asked, subtests):
    for change, message in [
        ({"methods": ("tnet",)}, r"unknown method 'tnet'.*did you mean tent\?"),
        ({"corruptions": ("fgo",)}, r"unknown corruption 'fgo'"),
        ({"model": "wrn-40-3"}, r"did you mean wrn-40-2\?"),
        ({"devices": ("raspberry-pi-4",)}, r"unknown device 'raspberry-pi-4'"),
        ({"normalisations": ("batches",)}, r"--normalisation 'batches'.*did you mean batch\?"),
        ({"gradient": "const"}, r"--gradient 'const'.*constant"),
        ({"order": "random"}, r"--order 'random'.*official, shuffled"),
        ({"memory_format": "nhwc"}, r"--memory-format 'nhwc'"),
        ({"allocator": "glibc"}, r"--allocator 'glibc'.*did you mean libc\?"),
        ({"data": "fashion-mnist"}, r"did you mean fashion-mnist-c\?"),
        ({"batches": (0,)}, r"--batch 0: it must be at least 1"),
        ({"frames": 0}, r"--frames 0: it must be at least 1"),
        ({"frames": 10**6}, r"--frames 1000000: .* has \d+ test images"),
        ({"threads": (0,)}, r"--threads 0"),
        ({"seed": -1}, r"--seed -1"),
        ({"seed": 2**63}, r"--seed 9223372036854775808: torch takes"),
        ({"views": 3}, r"--views 3: 1 is the frame alone, 2 the frame and its mirror image"),
        ({"engine": "onnx", "methods": ("source",), "views": 2}, r"cannot run: --views 2 is for --engine torch"),
        ({"batches": (1,), "methods": ("lame",)}, r"lame cannot run: a frame alone has no neighbours"),
        ({"engine": "onnx", "methods": ("oracle-k4",)}, r"oracle-k4 cannot run: onnxruntime computes no gradients"),
        ({"severity": 6}, r"--severity 6: it goes from 1"),
        ({"hyperparameters": {"lr": 0.0}}, r"--step-lr 0.0: a step size is a finite number above 0"),
        ({"hyperparameters": {"lr": float("nan")}}, r"--step-lr nan: a step size"),
        ({"engine": "onnx", "hyperparameters": {"lr": 0.01}}, r"--step-lr is for --engine torch"),
        (
            {"methods": ("tent", "bn"), "hyperparameters": {"lr": 0.01}},
            r"--step-lr is EcoTTA's, and none of tent, bn is",
        ),
        ({"hyperparameters": {"l1_weight": -0.5}}, r"--l1-weight -0.5: a weight is a finite number, 0 or above"),
        (
            {"engine": "onnx", "hyperparameters": {"l1_weight": 0.1}},
            r"--l1-weight is for --engine torch; bundles run",
        ),
        ({"learning_rates": {"tent": 0.0}}, r"--peer-lr tent=0.0: a step size is a finite number above 0"),
        ({"learning_rates": {"bn": 1.0}}, r"--peer-lr 'bn': known are tent, eata"),
        ({"learning_rates": {"ecotta-k4": 1.0}}, r"--peer-lr 'ecotta-k4': known are tent, eata"),
        ({"learning_rates": {"etaa": 1.0}}, r"--peer-lr 'etaa'.*did you mean eata\?"),
        ({"engine": "onnx", "learning_rates": {"tent": 0.1}}, r"--peer-lr is for --engine torch"),
        ({"batches": (1,), "methods": ("tent",)}, r"tent cannot run: .*--batch 2"),
        ({"batches": (1,), "methods": ("ecotta-k4",)}, r"ecotta-k4 cannot run: .*--normalisation running"),
        ({"frames": 1, "methods": ("bn",)}, r"bn cannot run"),
        ({"engine": "tensorflow"}, r"--engine 'tensorflow': known are torch, onnx"),
        ({"engine": "onnx", "optimisation": "most"}, r"--optimisation 'most': known are all, extended"),
        ({"engine": "onnx", "memory_kind": "heap"}, r"--memory-kind 'heap': known are arena, returning"),
        ({"engine": "onnx", "methods": ("eata",)}, r"eata cannot run: onnxruntime computes no gradients.*torch"),
        ({"engine": "onnx", "frames": 100}, r"--frames 100: a graph takes exactly --batch 64 frames"),
        ({"engine": "onnx", "frame_by_frame": True}, r"--frame-by-frame with --normalisation batch"),
        ({"engine": "onnx", "memory_format": "contiguous"}, r"--memory-format is for --engine torch"),
        ({"fast": True}, r"--fast is for --engine onnx"),
        ({"memory_kind": "returning"}, r"--memory-kind is for --engine onnx"),
        ({"bundles": (Path("net.ecotta"),)}, r"--bundle is for --engine onnx"),
        ({"enforce": "raspberry-pi-9"}, r"unknown device 'raspberry-pi-9'"),
    ]:
        with subtests.test(change=change), pytest.raises(UsageError, match=message):
            make_plan(replace(asked, **change))


def test_one_frame_at_a_time_leaves_out_what_needs_a_batch(asked):
    plan = make_plan(replace(asked, batches=(1,), normalisations=("running",)))

    assert methods_of(plan) == ("source", "ecotta-k4", "ecotta-k4-warmed")
    assert "statistics of the batch" in plan.left_out["tent"]


def test_a_method_that_would_be_the_same_run_as_another_is_refused(asked):
    request = replace(asked, batches=(1,), normalisations=("running",), methods=("ecotta-k4-constant",))

    with pytest.raises(UsageError, match="same run as ecotta-k4"):
        make_plan(request)


def test_a_method_of_the_default_set_without_its_file_is_left_out(asked, tmp_path):
    (tmp_path / "networks" / "wrn-40-2-fashion-mnist.ecotta-k4.safetensors").unlink()

    plan = make_plan(asked)

    assert methods_of(plan) == ("source", "bn", "tent", "eata")
    assert "ecotta-k4.safetensors is missing" in plan.left_out["ecotta-k4"]


def test_a_method_that_was_named_must_have_its_file(asked, tmp_path):
    (tmp_path / "networks" / "wrn-40-2-fashion-mnist.ecotta-k5.safetensors").unlink()

    with pytest.raises(Unavailable, match="ecotta-k5 cannot run: .* is missing; .*warm_up_networks"):
        make_plan(replace(asked, methods=("ecotta-k5",)))


def test_all_devices_are_every_profile_once(asked):
    plan = make_plan(replace(asked, devices=("raspberry-pi-4-1gb", "all")))

    ids = [device.id for device in plan.devices]
    assert ids[0] == "raspberry-pi-4-1gb"
    assert len(ids) == len(set(ids)) > 10


@pytest.fixture
def caged(monkeypatch):
    """Limits for which a cage was opened; none is made."""
    limits = []
    monkeypatch.setattr(plan_module, "MemoryCage", lambda limit_bytes: limits.append(limit_bytes) or nullcontext())
    return limits


@pytest.mark.parametrize(
    ("limit", "limit_bytes", "device"),
    [("raspberry-pi-zero-2w", 200_000_000, "raspberry-pi-zero-2w"), (512_000_000, 512_000_000, None)],
)
def test_a_hard_limit_is_a_devices_or_a_size_and_is_tried_before_any_work(asked, caged, limit, limit_bytes, device):
    plan = make_plan(replace(asked, enforce=limit))

    assert caged == [limit_bytes]
    assert (plan.enforced.limit_bytes, plan.enforced.device) == (limit_bytes, device)


def test_nobody_gets_a_hard_limit_unasked(asked, caged):
    assert make_plan(asked).enforced is None
    assert caged == []


def test_a_missing_torch_is_named_with_its_extra(asked, monkeypatch):
    monkeypatch.setattr(request_module, "find_spec", lambda name: None)

    with pytest.raises(Unavailable, match=r"torch.*\[bench\]"):
        make_plan(asked)


def test_a_folder_without_known_files_is_refused(asked, tmp_path):
    with pytest.raises(EcottaError, match="none of the layouts"):
        make_plan(replace(asked, data=str(tmp_path / "networks")))


def test_onnxruntime_gets_the_methods_that_have_a_graph_and_orders_for_them(asked):
    named = ("source", "ecotta-k4", "ecotta-k5", "ecotta-k4-constant", "ecotta-k4-warmed")
    plan = make_plan(replace(asked, engine="onnx", methods=named))

    assert methods_of(plan) == named
    assert {method: order.mode for (method, _), order in plan.orders.items()} == {
        "ecotta-k4": "batch",
        "ecotta-k5": "batch",
        "ecotta-k4-constant": "batch-constant",
        "ecotta-k4-warmed": "batch",
    }
    assert plan.orders["ecotta-k4", "batch"].batches == (64,)


def test_onnxruntime_leaves_out_of_the_default_set_what_has_no_graph(asked):
    plan = make_plan(replace(asked, engine="onnx"))

    assert methods_of(plan) == ("source", "tent", "ecotta-k4", "ecotta-k4-warmed")
    assert "computes no gradients" in plan.left_out["eata"]


def test_each_engine_has_its_own_allocator_unless_one_is_named(asked):
    allocators = [
        make_plan(replace(asked, engine=engine, allocator=allocator)).cases[0].allocator
        for engine, allocator in (("torch", None), ("onnx", None), ("onnx", "returning"))
    ]

    assert allocators == ["returning", "libc", "returning"]


def test_frame_by_frame_asks_for_graphs_of_one_frame_whatever_the_batch(asked):
    request = replace(asked, engine="onnx", batches=(16,), normalisations=("running",), frame_by_frame=True)

    plan = make_plan(replace(request, methods=("ecotta-k4",)))

    assert plan.cases[0].batch == 16
    assert plan.orders["ecotta-k4", "running"].batches == (1,)
    assert plan.orders["ecotta-k4", "running"].frame_by_frame


def test_onnxruntime_does_not_ask_for_torch_before_something_has_to_be_made(asked, monkeypatch):
    monkeypatch.setattr(request_module, "find_spec", lambda name: None)

    assert methods_of(make_plan(replace(asked, engine="onnx")))


@pytest.fixture
def fits_k4(asked, tmp_path, monkeypatch):
    """A bundle of the user's that only the methods with four parts can use."""

    def check(path, order):
        if order.warmed is None or "k5" in order.warmed:
            raise UsageError(f"--bundle {path}: it was not made from {order.warmed}")

    monkeypatch.setattr(plan_module, "check_bundle", check)
    return replace(asked, engine="onnx", bundles=(tmp_path / "net.ecotta",), normalisations=("running",))


def test_a_named_bundle_leaves_out_what_it_does_not_fit(fits_k4, monkeypatch):
    monkeypatch.setattr(registry, "DEFAULT_METHODS", (*DEFAULT_METHODS, "ecotta-k5"))

    plan = make_plan(fits_k4)

    assert methods_of(plan) == ("source", "ecotta-k4", "ecotta-k4-warmed")
    assert "it was not made from" in plan.left_out["ecotta-k5"]


def test_a_method_that_was_named_must_fit_the_named_bundle(fits_k4):
    with pytest.raises(UsageError, match="ecotta-k5 cannot run: --bundle .* was not made from"):
        make_plan(replace(fits_k4, methods=("ecotta-k5",)))
