"""Networks of one's own are opened as they are stored, so that what is merged is written for the same factory."""

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from ecotta_rt.merging.files import save_merged
from ecotta_rt.merging.members import file_members
from ecotta_rt.merging.networks import merge_networks
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.prepare.storing import inner

FACTORY = """
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

def make():
    layers = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers.append(nn.Linear(4, 4, bias=False))
    return layers.append(nn.Linear(4, 2))
"""


def test_weights_that_are_computed_at_each_call_are_merged_as_they_are_stored(tmp_path):
    (tmp_path / "net.py").write_text(FACTORY, encoding="utf-8")
    name, files = f"{tmp_path / 'net.py'}:make", [tmp_path / "a.pt", tmp_path / "b.pt"]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        network = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        torch.save(network.append(nn.Linear(4, 4, bias=False)).append(nn.Linear(4, 2)).state_dict(), file)
    members = file_members([name], files, mean=[0.5], std=[0.25])

    merged = merge_networks(members)
    save_merged(merged.fill(members[0].open()), tmp_path / "out.safetensors", merged, name=name, checkpoint=files[0])

    stored, (a, b) = load_file(tmp_path / "out.safetensors"), (torch.load(file) for file in files)
    assert all(torch.allclose(value, (a[key] + b[key]) / 2) for key, value in stored.items()) and len(stored) == len(a)
    again = open_network(name, checkpoint=tmp_path / "out.safetensors", mean=[0.5], std=[0.25])
    frames = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(again(frames), merged.fill(members[1].open())(frames))
    assert "normalise.mean" not in inner(members[0].open()).state_dict()
