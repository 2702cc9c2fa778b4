"""Test-time adaptation of vision networks inside the memory of small devices, after EcoTTA (CVPR 2023).

Importing this package loads no array library, no runtime and no torch: names are fetched when first used.

    import ecotta_rt

    runtime = ecotta_rt.Runtime.load("net.ecotta")        # a device: numpy and onnxruntime
    prediction = runtime(frames)
    board = ecotta_rt.load_device("raspberry-pi-zero-2w")
    with ecotta_rt.ActivationProfiler() as profiler:      # host only: needs the extra `prepare`
        ...
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecotta_rt._version import __version__
from ecotta_rt.errors import (
    BadFrames,
    BudgetExceeded,
    CheckpointError,
    ConfigurationError,
    EcottaError,
    InputFileError,
    NetworkError,
    TransferError,
    Unavailable,
    UsageError,
)

# By its Privacy.md onnxruntime's stock wheels report their use unless told not to; 1.31 starts a thread for its records
# when it is imported. A device that watches rooms must not; whoever wants it sets the variable before. Here, since
# every import of ours and every child process comes by first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from ecotta_rt.machine.device import DeviceProfile, device_ids, load_device
    from ecotta_rt.profile.profiler import ActivationProfiler
    from ecotta_rt.records import Prediction
    from ecotta_rt.runtime.engine import Runtime
    from ecotta_rt.state import AdaptState

__all__ = [
    "ActivationProfiler",
    "AdaptState",
    "BadFrames",
    "BudgetExceeded",
    "CheckpointError",
    "ConfigurationError",
    "DeviceProfile",
    "EcottaError",
    "InputFileError",
    "NetworkError",
    "Prediction",
    "Runtime",
    "TransferError",
    "Unavailable",
    "UsageError",
    "__version__",
    "device_ids",
    "load_device",
]

_HOMES = {
    "ActivationProfiler": "ecotta_rt.profile.profiler",
    "AdaptState": "ecotta_rt.state",
    "DeviceProfile": "ecotta_rt.machine.device",
    "Prediction": "ecotta_rt.records",
    "Runtime": "ecotta_rt.runtime.engine",
    "device_ids": "ecotta_rt.machine.device",
    "load_device": "ecotta_rt.machine.device",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from ecotta_rt.extras import missing_package

        raise missing_package(error) or error from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
