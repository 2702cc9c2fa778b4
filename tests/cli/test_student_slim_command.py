"""`ecotta student slim` and `pick`: from pictures to a bank, and from it to the network and bundle for a board."""

import json

import numpy as np
import pytest

from ecotta_rt.cli.main import main
from ecotta_rt.prepare.checkpoint import read_network_file

FAST = ["--size", "8", "--epochs", "2", "--batch", "8", "--augment", "none", "--sampled", "2", "--source-share", "0.5"]

FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network of one's own, a labelled source and a target of three kinds of pictures."""
    folder = tmp_path_factory.mktemp("slim")
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 3
    frames = (rng.integers(0, 80, (24, 8, 8, 3)) + 80 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(folder / "source.npz", x_train=frames, y_train=labels.astype(np.int64))
    np.savez(folder / "door.npz", x_train=frames[::-1] // 2)
    np.savez(folder / "one.npz", x_train=frames, y_train=np.zeros(24, np.int64))
    (folder / "net.py").write_text(FACTORY, encoding="utf-8")
    return folder


def slim(folder, *more):
    return ["student", "slim", f"{folder / 'net.py'}:make", "--source", str(folder / "source.npz"), *FAST, *more]


@pytest.fixture(scope="module", autouse=True)
def each_bundle_is_exported_once():
    """Picks of these tests ask for the same few widths again and again."""
    from ecotta_rt.prepare.snapshot import weights_digest
    from ecotta_rt.student.slimda import device_cost

    exported, real = {}, device_cost.export_bundle

    def export(network, warmed, path, options, **more):
        key = (weights_digest(network), options.learning_only, tuple(options.batches))
        if key not in exported:
            real(network, warmed, path, options, **more)
            exported[key] = path.read_bytes()
        path.write_bytes(exported[key])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(device_cost, "export_bundle", export)
        yield


@pytest.fixture(scope="module")
def bank(folder):
    path = folder / "bank.safetensors"
    assert main(slim(folder, "--target", f"door={folder / 'door.npz'}", "--out", str(path))) == 0
    return path


def pick(folder, bank, out, *more):
    network = ["--network", f"{folder / 'net.py'}:make", "--parts", "1", "--tries", "1"]
    return ["student", "pick", str(bank), *network, "-o", str(out), *more]


def test_slim_writes_a_bank_and_tells(folder, tmp_path, capsys):
    out, told = tmp_path / "bank.safetensors", tmp_path / "told.json"

    code = main(slim(folder, "--target", f"door={folder / 'door.npz'}", "--out", str(out), "--json", str(told)))

    facts = json.loads(told.read_text())
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank.safetensors", "told.json"]
    assert facts["groups"] == {"0": 8, "3": 8, "6": 8}
    assert [set(epoch) for epoch in facts["history"]] == [{"L_source"}, {"L_dc", "L_seed"}]
    captured = capsys.readouterr()
    assert "3 groups of channels, 24 channels to remove" in captured.err
    assert "million operations a frame; 24 frames of the target are in it" in captured.out


def test_who_interrupts_it_hears_how_it_goes_on_and_it_does(folder, tmp_path, monkeypatch, capsys):
    from ecotta_rt.cli.student_watch import EpochProgress

    arguments = slim(folder, "--target", f"door={folder / 'door.npz'}", "--out", str(tmp_path / "bank.safetensors"))

    def interrupted(self, progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(EpochProgress, "__call__", interrupted)
        assert main(arguments) == 130
    assert "goes on after the last whole epoch" in capsys.readouterr().err
    assert (tmp_path / "bank.safetensors.snapshot").exists()

    assert main([*arguments, "--lr", "0.01"]) == 4  # another run
    assert "lr was 0.05 and is 0.01" in capsys.readouterr().err
    assert main(arguments) == 0
    assert not (tmp_path / "bank.safetensors.snapshot").exists()


def test_what_slim_cannot_do_is_one_sentence_and_writes_nothing(folder, tmp_path, capsys, subtests):
    target = ["--target", f"door={folder / 'door.npz'}"]
    (tmp_path / "stuck.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Softmax(1), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))\n",
        encoding="utf-8",
    )
    out = tmp_path / "out.safetensors"
    cases = [
        (slim(folder), 2, "give at least one"),
        (slim(folder, *target, "--least", "0"), 2, "least 0"),
        (slim(folder, *target, "--sampled", "0"), 2, "sampled 0"),
        (slim(folder, *target, "--least", "0.99"), 2, "leaves all channels where they are"),
        (slim(folder, *target, "--out", str(tmp_path / "bank.pt")), 2, "a bank is a .safetensors file"),
        (slim(folder, "--target", "door=nowhere"), 4, "nowhere: no such folder"),
        ([*slim(folder, *target), "--source", str(folder / "one.npz")], 2, "1 class"),
        (["student", "slim", f"{tmp_path / 'stuck.py'}:make", *slim(folder, *target)[3:]], 2, "node '_1'"),
        (["student", "slim", "nothing", *slim(folder, *target)[3:]], 2, "unknown network 'nothing'"),
    ]
    for arguments, expected, sentence in cases:
        with subtests.test(sentence):
            given = arguments if "--out" in arguments else [*arguments, "--out", str(out)]
            assert main(given) == expected
            assert sentence in capsys.readouterr().err
            assert {path.name for path in tmp_path.iterdir()} <= {"stuck.py", "__pycache__"}


def test_pick_writes_the_widest_that_fits_and_its_bundle(folder, bank, tmp_path, capsys):
    out, told = tmp_path / "door.safetensors", tmp_path / "told.json"

    code = main(pick(folder, bank, out, "--device", "raspberry-pi-zero-2w", "--json", str(told)))

    facts = json.loads(told.read_text())
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door.ecotta", "door.safetensors", "told.json"]
    assert facts["chosen"]["channels"] == {"0": 8, "3": 8, "6": 8}  # a network so small fits whole
    assert facts["chosen"]["plan"]["fits"] and facts["candidates"][0]["upem"] == 0
    assert facts["candidates"][0]["peak_bytes"] == facts["chosen"]["peak_bytes"]
    assert "chosen" in capsys.readouterr().out
    assert main(["plan", str(tmp_path / "door.ecotta"), "--device", "raspberry-pi-zero-2w"]) == 0


def test_the_next_pick_uses_what_was_measured_and_takes_no_harm_of_a_bad_file(folder, bank, tmp_path, capsys):
    costs, told = bank.with_name("bank.safetensors.costs.json"), tmp_path / "told.json"
    costs.unlink(missing_ok=True)

    def measured(device, *more):
        given = ["--device", device, "--json", str(told), "--force", *more]
        assert main(pick(folder, bank, tmp_path / "door.safetensors", *given)) == 0
        return json.loads(told.read_text())["measured"]

    assert measured("raspberry-pi-zero-2w") == 2
    assert measured("raspberry-pi-4-2gb") == 0
    capsys.readouterr()
    of_before = json.loads(costs.read_text())
    costs.write_text(json.dumps({**of_before, "widths": [{**one, "ms": 1e6} for one in of_before["widths"]]}))
    assert measured("raspberry-pi-4-2gb", "--ms", "100000") == 2  # a busy machine's times are no limit
    capsys.readouterr()
    costs.write_text("{")
    assert measured("raspberry-pi-4-2gb") == 2
    assert "measured anew" in capsys.readouterr().err


def test_a_limit_of_time_makes_it_narrower_and_prepare_takes_what_comes_out(folder, bank, tmp_path, monkeypatch):
    from ecotta_rt.student.slimda import device_cost
    from ecotta_rt.student.slimmable.widths import operations

    def by_operations(self, bundle, way):
        return operations(self.bank.slimmable.groups, self.made_last) / 1e4

    def prepared(self, widths, *rest, real=device_cost.Bundles._prepared):
        object.__setattr__(self, "made_last", widths)
        return real(self, widths, *rest)

    monkeypatch.setattr(device_cost.Bundles, "_ms", by_operations)  # clocks of a busy machine tell nothing
    monkeypatch.setattr(device_cost.Bundles, "_prepared", prepared)
    bank.with_name("bank.safetensors.costs.json").unlink(missing_ok=True)
    out, told = tmp_path / "door.safetensors", tmp_path / "told.json"

    given = ["--device", "raspberry-pi-4-1gb", "--ms", "5", "--json", str(told), "--plot", str(tmp_path / "widths.svg")]
    assert main(pick(folder, bank, out, *given)) == 0

    facts = json.loads(told.read_text())
    assert facts["chosen"]["ms"] <= 5
    taken = [each["channels"] for each in facts["candidates"]].index(facts["chosen"]["channels"])
    wider = facts["candidates"][:taken]
    assert wider and all(each["predicted_ms"] > 5 or each.get("ms", 0) > 5 for each in wider)
    bank.with_name("bank.safetensors.costs.json").unlink()  # of no clock
    assert (tmp_path / "widths.svg").read_text(encoding="utf-8").startswith("<?xml")
    network = f"{folder / 'net.py'}:make"
    again = ["--checkpoint", str(out), "--no-bundle", "--parts", "1", "--out", str(tmp_path / "again")]
    assert main(["prepare", network, *again]) == 0


def test_a_device_that_no_width_fits_is_told_the_nearest(folder, bank, tmp_path, capsys):
    out = tmp_path / "door.safetensors"

    code = main(pick(folder, bank, out, "--device", "raspberry-pi-zero-2w", "--limit", "20MB"))

    assert code == 3
    assert (
        "no width of this bank fits Raspberry Pi Zero 2 W, which allows 19 MiB: the nearest needs"
        in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_what_pick_cannot_do_is_one_sentence_and_writes_nothing(folder, bank, tmp_path, capsys, subtests):
    (tmp_path / "there.safetensors").write_bytes(b"x")
    device = ["--device", "raspberry-pi-zero-2w"]
    out = tmp_path / "out.safetensors"
    cases = [
        (pick(folder, tmp_path / "no.safetensors", out, *device), 4, "no such file"),
        (pick(folder, tmp_path / "there.safetensors", out, *device), 4, "not a whole safetensors file"),
        (pick(folder, bank, tmp_path / "there.safetensors", *device), 2, "--force replaces it"),
        (pick(folder, bank, tmp_path / "out.pt", *device), 2, "give a .safetensors file"),
        (pick(folder, bank, out, *device, "--ms", "0"), 2, "ms 0"),
        (pick(folder, bank, out, *device, "--tries", "-1"), 2, "tries -1"),
        (pick(folder, bank, out, *device, "--limit", "much"), 2, "much"),
        (pick(folder, bank, out, "--device", "abacus"), 2, "abacus"),
        (["student", "pick", str(bank), *device, "-o", str(out)], 2, "name that network"),
        (pick(folder, bank, bank, *device, "--force"), 2, "is the bank itself"),
    ]
    for arguments, expected, sentence in cases:
        with subtests.test(sentence):
            assert main(arguments) == expected
            assert sentence in capsys.readouterr().err
            assert [path.name for path in tmp_path.iterdir()] == ["there.safetensors"]


def test_a_network_that_was_made_narrower_is_no_beginning(tmp_path, capsys, folder):
    import torch

    from ecotta_rt.method.width.groups import find_groups
    from ecotta_rt.method.width.narrow import narrow
    from ecotta_rt.prepare.checkpoint import save_network
    from ecotta_rt.prepare.networks import build_network

    path = tmp_path / "small.safetensors"
    small = narrow(find_groups(build_network("resnet-8", classes=3), torch.zeros(1, 3, 32, 32)), {"conv1": 4})
    save_network(small, path, model="resnet-8", channels={"conv1": 4})
    assert read_network_file(path).channels == {"conv1": 4}

    arguments = [*slim(folder, "--target", f"door={folder / 'door.npz'}")[3:], "--out", str(tmp_path / "b.safetensors")]
    for beginning in ([str(path)], ["resnet-8", "--checkpoint", str(path)]):
        assert main(["student", "slim", *beginning, *arguments]) == 2
        assert "was made narrower already" in capsys.readouterr().err
