"""What would fail after hours of warm-up is said before it: names, shapes, logits, operators, a trial step."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_rt.bundle import FrameSpec, read_bundle
from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.options import ON_DEVICE, StepOptions
from ecotta_rt.prepare.preflight import preflight, require_answers

NAMES = ("ant", "bee", "cow")


class Small(nn.Module):
    """Three convolutions; `last` makes logits of rows."""

    def __init__(self, last=None, norm=nn.BatchNorm2d, middle=None):
        super().__init__()
        widths = [(3, 6), (6, 6), (6, 8)]
        self.body = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(*pair, 3, padding=1), norm(pair[1]), nn.ReLU()) for pair in widths)
        )
        self.fc, self.last, self.middle = nn.Linear(8, 3), last or (lambda x: x), middle or (lambda x: x)

    def forward(self, x):
        return self.last(self.fc(self.middle(self.body(x).mean((2, 3)))))


def check(network, path=None, *, classes=NAMES, batches=(1,), options=None, parts=2, tell=None):
    torch.manual_seed(0)
    wanted = ExportOptions("small", classes, FrameSpec(3, 8, 8), batches, options or ON_DEVICE)
    return preflight(network, path, wanted, parts=parts, kernel=1, tell=tell)


REFUSED = {
    "too few names": (Small, {"classes": NAMES[:2]}, r"2 class names, and the network gives \[N, 3\]"),
    "one number a frame": (lambda: Small(lambda x: x[:, :1]), {}, r"one number a frame, \[N, 1\]"),
    "hidden probabilities": (
        lambda: Small(lambda x: x.exp() / x.exp().sum(1, keepdim=True)),
        {},
        "rows are shares of 1, probabilities and not logits",
    ),
    "dropout that stays on": (lambda: Small(middle=lambda x: F.dropout(x, 0.5)), {}, "a dropout is on in evaluation"),
    "another number of channels": (
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten()),
        {},
        r"node '_0' \(0\) cannot run on example frames: .*1 channels?",
    ),
    "too many parts": (Small, {"parts": 9}, "9 parts asked for"),
}


def test_what_the_warm_up_would_be_wasted_on_is_one_line(subtests):
    for name in REFUSED:
        with subtests.test(name=name):
            build, given, message = REFUSED[name]

            with pytest.raises(UsageError, match=message) as caught:
                check(build(), **given)
            assert "\n" not in str(caught.value)


def test_a_hook_that_changes_features_is_noticed():
    network = Small()
    network.body[1][0].register_forward_hook(lambda module, given, out: out + 1)

    with pytest.raises(NetworkError, match="cut into pieces gives other answers than the whole network"):
        check(network)


def test_a_shape_that_single_frames_break_is_named_with_their_number():
    network = Small().eval()
    pieces = partition(network, torch.zeros(1, 3, 8, 8), 2)
    mean = next(node for node in pieces.head.graph.nodes if node.op == "call_method")
    with pieces.head.graph.inserting_after(mean):
        bare = pieces.head.graph.call_function(torch.squeeze, (mean,))
    bare.meta.update(mean.meta)
    mean.replace_all_uses_with(bare, delete_user_cb=lambda user: user is not bare)

    message = r"with 1 frames a step, node 'squeeze' \(squeeze\) gives \[8\] instead of \[1, 8\]"
    with pytest.raises(NetworkError, match=message):
        require_answers(network, pieces, (3, 8, 8), NAMES, (1, 4))


def test_an_operator_without_a_rule_is_named_before_the_warm_up(tmp_path):
    with pytest.raises(NetworkError, match=r"native_group_norm.* cannot be exported: there is no ONNX rule"):
        check(Small(norm=lambda channels: nn.GroupNorm(2, channels)), tmp_path / "net.ecotta")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("norm", "line"), [(nn.BatchNorm2d, "3 batch norms and 2 meta"), (nn.Identity, "NO batch norm in")]
)
def test_how_many_norms_follow_the_frames_is_said(norm, line):
    heard = []

    check(Small(norm=lambda channels: norm(channels) if norm is nn.BatchNorm2d else norm()), tell=heard.append)

    assert heard[-1].startswith(line)


@pytest.mark.parametrize(("normalisation", "batch"), [("running", 1), pytest.param("batch", 4, marks=pytest.mark.slow)])
def test_graphs_of_untrained_groups_are_those_of_warmed_up_ones(tmp_path, normalisation, batch):
    """So nothing is compiled twice: only the state is exchanged."""
    options = StepOptions(normalisation=normalisation, lr_batch=64)
    torch.manual_seed(0)
    network = Small()

    compiled = check(network, tmp_path / "net.ecotta", batches=(batch,), options=options)

    adaptable = attach(partition(network.eval(), torch.zeros(1, 3, 8, 8), 2), 1)
    state = to_adapt_state(initial_state(adaptable), adaptable.digest())
    for value in (*state.parameters.values(), *state.statistics.values()):
        value += np.random.default_rng(0).random(value.shape, np.float32)
    compiled.write(tmp_path / "early.ecotta", state)
    spec = FrameSpec(3, 8, 8)
    export(
        adaptable,
        state,
        tmp_path / "late.ecotta",
        ExportOptions(model="small", classes=NAMES, frame=spec, batches=(batch,), step=options),
    )
    assert (tmp_path / "early.ecotta").read_bytes() == (tmp_path / "late.ecotta").read_bytes()
    assert read_bundle(tmp_path / "early.ecotta").manifest.classes == NAMES


@pytest.mark.slow
def test_graphs_with_constant_statistics_are_made_again(tmp_path):
    assert check(Small(), tmp_path / "net.ecotta", options=StepOptions(normalisation="source", lr_batch=64)) is None
    assert not list(tmp_path.iterdir())
