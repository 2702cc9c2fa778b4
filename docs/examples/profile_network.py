"""What any torch network keeps for its backward, by part and by tensor; a limit that it must not exceed.

python docs/examples/profile_network.py
"""

import torch
from own_network import build

from ecotta_rt import ActivationProfiler

network = build()
with ActivationProfiler(network, limit_bytes=200_000_000) as profiler:
    network(torch.rand(8, 3, 96, 96)).sum().backward()
print(f"{profiler.report.activation_bytes / 2**20:.1f} MiB kept for the backward")
