"""Test-time adaptation of vision networks inside the memory of small devices, after EcoTTA (CVPR 2023).

Importing this package loads no array library, no runtime and no torch: names are fetched when first used.

    import ecotta_rt

    runtime = ecotta_rt.Runtime.load("net.ecotta")        # a device: numpy and onnxruntime
    prediction = runtime(frames)
    board = ecotta_rt.load_device("raspberry-pi-zero-2w")
    network = ecotta_rt.attach(ecotta_rt.partition(frozen, frames, parts=4))    # host only: the extra `prepare`
    with ecotta_rt.ActivationProfiler() as profiler:
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
    from ecotta_rt.daemon.live import Live
    from ecotta_rt.exporter.export import export
    from ecotta_rt.exporter.request import ExportOptions
    from ecotta_rt.machine.device import DeviceProfile, device_ids, load_device
    from ecotta_rt.method.attach import attach
    from ecotta_rt.method.cut.partition import partition
    from ecotta_rt.method.tent import Tent
    from ecotta_rt.method.torch_engine import TorchEngine
    from ecotta_rt.options import SessionOptions, StepOptions
    from ecotta_rt.prepare.epochs import WarmUpOptions
    from ecotta_rt.prepare.open_network import open_network
    from ecotta_rt.prepare.warmup import fine_tune, warm_up
    from ecotta_rt.profile.profiler import ActivationProfiler
    from ecotta_rt.records import Frame, Prediction
    from ecotta_rt.runtime.engine import Runtime
    from ecotta_rt.sources.opening import open_source
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
    "ExportOptions",
    "Frame",
    "InputFileError",
    "Live",
    "NetworkError",
    "Prediction",
    "Runtime",
    "SessionOptions",
    "StepOptions",
    "Tent",
    "TorchEngine",
    "TransferError",
    "Unavailable",
    "UsageError",
    "WarmUpOptions",
    "__version__",
    "attach",
    "device_ids",
    "export",
    "fine_tune",
    "load_device",
    "open_network",
    "open_source",
    "partition",
    "warm_up",
]

_HOMES = {
    "ActivationProfiler": "ecotta_rt.profile.profiler",
    "AdaptState": "ecotta_rt.state",
    "DeviceProfile": "ecotta_rt.machine.device",
    "ExportOptions": "ecotta_rt.exporter.request",
    "Frame": "ecotta_rt.records",
    "Live": "ecotta_rt.daemon.live",
    "Prediction": "ecotta_rt.records",
    "Runtime": "ecotta_rt.runtime.engine",
    "SessionOptions": "ecotta_rt.options",
    "StepOptions": "ecotta_rt.options",
    "Tent": "ecotta_rt.method.tent",
    "TorchEngine": "ecotta_rt.method.torch_engine",
    "WarmUpOptions": "ecotta_rt.prepare.epochs",
    "attach": "ecotta_rt.method.attach",
    "device_ids": "ecotta_rt.machine.device",
    "export": "ecotta_rt.exporter.export",
    "fine_tune": "ecotta_rt.prepare.warmup",
    "load_device": "ecotta_rt.machine.device",
    "open_network": "ecotta_rt.prepare.open_network",
    "open_source": "ecotta_rt.sources.opening",
    "partition": "ecotta_rt.method.cut.partition",
    "warm_up": "ecotta_rt.prepare.warmup",
}


def __getattr__(name: str) -> Any:
    if name == "student":  # a room whose own names are fetched late
        return import_module("ecotta_rt.student")
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
