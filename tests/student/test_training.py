import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.student.training import RATES, Moment, Steps, TrainingOptions, sgd, train

OPTIONS = TrainingOptions(epochs=4, lr=0.1)


def small_steps(options=OPTIONS, identity="a", scale=1.0, seen=None, after=None):
    """A linear layer with dropout on random numbers: what is drawn, and by whom, matters."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
    optimiser = sgd(network, options)

    def drawn(generator):
        for _ in range(5):
            yield torch.rand(8, 3, generator=generator)

    def step(batch, moment):
        loss = scale * (network(batch) - batch.sum(1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if seen is not None:
            seen.append((moment, optimiser.param_groups[0]["lr"]))
        return {"loss": loss.item()}

    return Steps({"network": network}, {"sgd": optimiser}, 5, drawn, step, {"network": identity}, after)


def weights(steps):
    return steps.modules["network"].state_dict()["1.weight"]


def test_trains_with_the_rate_of_the_schedule_and_tells_means():
    seen, told = [], []
    steps = small_steps(seen=seen, after=lambda: {"sign": 7.0})

    history = train(steps, OPTIONS, report=told.append)

    assert [moment.step for moment, _ in seen] == list(range(20))
    assert [lr for _, lr in seen] == pytest.approx([0.1 / (1 + 10 * step / 20) ** 0.75 for step in range(20)])
    assert len(history) == 4 and history[-1]["loss"] < history[0]["loss"] and history[0]["sign"] == 7.0
    assert [(p.epoch, p.step) for p in told[4:6]] == [(1, 5), (2, 6)] and told[4].means["loss"] == history[0]["loss"]
    assert told[-1].seconds_left == 0.0


def test_rates_begin_at_one():
    assert {name: rate(0.0) for name, rate in RATES.items()} == {"dann": 1.0, "cosine": 1.0, "constant": 1.0}
    assert RATES["dann"](1.0) == pytest.approx(11**-0.75) and RATES["cosine"](1.0) == pytest.approx(0.0)
    assert Moment(1, 4, 5, 20).done == 0.25


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path, epoch):
    whole = small_steps()
    history = train(whole, OPTIONS)

    def interrupt(progress):
        if progress.step == 5 * epoch + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_steps(), OPTIONS, report=interrupt, snapshot=tmp_path / "run.snapshot")
    again, told = small_steps(), []
    resumed = train(again, OPTIONS, report=told.append, snapshot=tmp_path / "run.snapshot")

    assert told[0].epoch == epoch + 1
    assert torch.equal(weights(again), weights(whole)) and resumed == history


def test_a_run_that_has_ended_is_not_trained_again(tmp_path):
    first = small_steps()
    history = train(first, OPTIONS, snapshot=tmp_path / "run.snapshot")

    again = small_steps()
    assert train(again, OPTIONS, report=pytest.fail, snapshot=tmp_path / "run.snapshot") == history
    assert torch.equal(weights(again), weights(first))


def test_refuses_the_snapshot_of_another_run(tmp_path):
    train(small_steps(), OPTIONS, snapshot=tmp_path / "run.snapshot")

    with pytest.raises(InputFileError, match="another run: network was a and is b"):
        train(small_steps(identity="b"), OPTIONS, snapshot=tmp_path / "run.snapshot")
    with pytest.raises(InputFileError, match="another run: epochs was 4 and is 5"):
        train(small_steps(), TrainingOptions(epochs=5, lr=0.1), snapshot=tmp_path / "run.snapshot")
    (tmp_path / "run.snapshot").write_bytes(b"nothing of ours")
    with pytest.raises(InputFileError, match="damaged"):
        train(small_steps(), OPTIONS, snapshot=tmp_path / "run.snapshot")


def test_a_loss_that_is_no_number_ends_the_run_with_advice():
    with pytest.raises(UsageError, match=r"loss is (inf|nan) in step .*smaller lr"):
        train(small_steps(scale=1e30), OPTIONS)


def test_a_loss_that_is_no_number_in_a_later_epoch_names_the_snapshot_to_remove(tmp_path):
    snapshot = tmp_path / "run.snapshot"
    first = small_steps()

    def step(batch, moment):
        return first.step(batch, moment) if moment.epoch == 0 else {"loss": math.nan}

    with pytest.raises(UsageError, match=rf"smaller lr, and remove {re.escape(str(snapshot))}"):
        train(replace(first, step=step), OPTIONS, snapshot=snapshot)
    snapshot.unlink()
    assert len(train(small_steps(), replace(OPTIONS, lr=0.01), snapshot=snapshot)) == OPTIONS.epochs


def test_leaves_torchs_own_generator_alone():
    steps = small_steps()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    train(steps, OPTIONS)

    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch": 1}, {"lr": 0.0}, {"lr": math.inf}, {"momentum": 1.0}, {"rate": "steps"}, {"seed": -1}],
)
def test_refuses_options_that_cannot_be_meant(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        TrainingOptions(**wrong)
