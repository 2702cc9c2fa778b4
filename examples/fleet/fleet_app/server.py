"""The ServerApp is ours as it is; its settings are in pyproject.toml, or in `flwr run --run-config`."""

from ecotta_rt.flower.server import app

__all__ = ["app"]
