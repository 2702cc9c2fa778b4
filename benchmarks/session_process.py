"""The process that `measure_sessions.py` measures: it runs graphs of one bundle under given options and prints JSON.

    imports  ->  baseline  ->  load  ->  load peak, reset  ->  steps  ->  run peak

It imports what a device imports and nothing of the benchmark. It opens its sessions by hand, since `Runtime` leaves no
choice of what is measured here.
"""

import json
import statistics
import sys
import time
from typing import Any

import numpy as np

from ecotta_rt.bundle import Bundle, read_bundle
from ecotta_rt.process_memory import peak_resident_bytes, reset_peak, resident_bytes
from ecotta_rt.runtime.session import SessionOptions, session_settings, trim_heap


def main(
    path: str, graphs: list[str], steps: int, options: dict[str, Any], change: dict[str, Any], copied: bool
) -> dict[str, Any]:
    """Run the graphs in turn.

    Args:
        path: Of the bundle.
        graphs: Their names; the last one is timed.
        steps: How often each runs.
        options: Of `SessionOptions`.
        change: What is other than ours: attributes of onnxruntime's SessionOptions, or entries with a dot in the name.
        copied: Hand the weights over as bytes, instead of letting onnxruntime map them.
    """
    import onnxruntime as ort

    baseline_bytes = resident_bytes()
    bundle = read_bundle(path)
    opened = [opened_session(ort, bundle, name, SessionOptions(**options), change, copied) for name in graphs]
    trim_heap()
    state = dict(
        zip(("parameters", "momentum", "statistics"), bundle.manifest.layout.pack(bundle.initial_state()), strict=True)
    )
    load_peak_bytes = peak_resident_bytes()
    reset_peak()
    seconds: list[float] = []
    for _ in range(steps):
        for session in opened:
            shapes = {port.name: port.shape for port in session.get_inputs()}
            values = {**state, "frames": np.full(shapes["frames"], 0.5, np.float32)}
            names = [port.name for port in session.get_outputs()]
            started_s = time.perf_counter()
            results = session.run(names, {name: values[name] for name in shapes})
            seconds.append(time.perf_counter() - started_s)
            written = dict(zip(names, results, strict=True))
            state = {name: written.get(f"next_{name}", value) for name, value in state.items()}
    timed = seconds[len(opened) - 1 :: len(opened)]
    return {
        "baseline_bytes": baseline_bytes,
        "load_peak_bytes": load_peak_bytes,
        "run_peak_bytes": peak_resident_bytes(),
        "ms": 1e3 * statistics.median(timed[1:] or timed),
    }


def opened_session(
    ort: Any, bundle: Bundle, graph: str, options: SessionOptions, change: dict[str, Any], copied: bool
) -> Any:
    settings = session_settings(options)
    for name, value in change.items():
        if "." in name:
            settings.add_session_config_entry(name, value)
        else:
            kind = type(getattr(settings, name))
            setattr(settings, name, value if kind in (bool, int) else getattr(kind, value))
    if copied:
        content = weights_file(bundle)
        settings.add_external_initializers_from_files_in_memory(["weights.bin"], [content], [len(content)])
        return ort.InferenceSession(bundle.graph(graph), settings, providers=["CPUExecutionProvider"])
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(bundle.file.parent))
    return ort.InferenceSession(bundle.relocated_graph(graph), settings, providers=["CPUExecutionProvider"])


def weights_file(bundle: Bundle) -> bytes:
    """`weights.bin` as it lies in the bundle."""
    arrays = bundle.weights()
    entries = bundle.manifest.weights
    content = bytearray(max(entry.offset + entry.bytes for entry in entries))
    for entry in entries:
        content[entry.offset : entry.offset + entry.bytes] = arrays[entry.name].tobytes()
    return bytes(content)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
