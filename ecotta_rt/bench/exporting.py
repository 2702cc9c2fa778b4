"""Make a bundle or an inference-only graph in a process of its own, the one of an onnx run that has torch."""

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from ecotta_rt.bench.bundles import BundleOrder, ForwardOrder, cache_folder, find_bundle
from ecotta_rt.bench.child import module_command, started
from ecotta_rt.errors import EcottaError, Unavailable
from ecotta_rt.extras import how_to_install

__all__ = ["bundle_for", "forward_for"]

_MAKER = module_command("ecotta_rt.bench.peers.export_worker")

Say = Callable[[str], None]
"""Hears what is being done."""


def bundle_for(order: BundleOrder, say: Say) -> Path:
    """The bundle of an order, made now where there is none.

    Raises:
        Unavailable: It has to be made and torch is missing.
        EcottaError: It cannot be made; the message has the reason, and the error the exit code of the cause.
    """
    found = find_bundle(order, say)
    return found or _make(order, order.cached_path(), say)


def forward_for(order: ForwardOrder, say: Say) -> Path:
    """The inference-only graph of an order, made now where there is none. Raises as `bundle_for`."""
    path = order.path()
    return path if path.is_file() else _make(order, path, say)


def _make(order: BundleOrder | ForwardOrder, path: Path, say: Say) -> Path:
    if find_spec("torch") is None:
        raise Unavailable(
            f"{path.name} has to be made first, which needs torch: {how_to_install('prepare')}, or run this "
            f"once where torch is and copy {cache_folder()} here ($ECOTTA_CACHE names it)"
        )
    say(f"making {path.name}, once, into {path.parent}")
    task = {"kind": type(order).__name__, "path": str(path), "order": asdict(order)}
    with started(_MAKER, 1, "libc") as maker:  # tracing is small pieces of work: threads would wait for each other
        maker.tell(json.dumps(task))
        for message in maker.messages():
            if "error" in message:
                raise _failed(path, message["error"], message["exit_code"])
            done, total = message["done"], message["total"]  # behind the graphs comes the plan
            say(f"  graph {done + 1} of {total}: {message['graph']}" if done < total else f"  {message['graph']}")
        if maker.wait() != 0:
            raise _failed(path, maker.cause_of_death(), 1)
    return path


def _failed(path: Path, why: str, exit_code: int) -> EcottaError:
    error = EcottaError(f"{path.name} could not be made: {why}")
    error.exit_code = exit_code
    return error
