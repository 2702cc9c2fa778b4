"""The process that `measure_sessions.py` measures: it runs graphs of one bundle under given options and prints JSON.

    imports  ->  baseline  ->  load  ->  load peak, reset  ->  steps  ->  run peak

It imports what a device imports and nothing of the benchmark. It opens its sessions by hand, since `Runtime` leaves no
choice of what is measured here; outputs are not bound, so the state's vectors are there once more than on a device.
Every step starts from the bundle's state: after forty times the same frame the gate would be shut.
"""

import json
import statistics
import sys
import time
from typing import Any

import numpy as np

from ecotta_rt.bundle import Bundle, read_bundle
from ecotta_rt.machine.process_memory import peak_resident_bytes, reset_peak, resident_bytes
from ecotta_rt.options import SessionOptions
from ecotta_rt.session.opening import session_settings, trim_heap


def main(
    path: str,
    graphs: list[str],
    frames: str,
    steps: int,
    options: dict[str, Any],
    change: dict[str, Any],
    copied: bool,
    arena_frames: int | None,
) -> dict[str, Any]:
    """Run the graphs in turn.

    Args:
        path: Of the bundle.
        graphs: Their names; the last one is timed.
        frames: A file with the batch, uint8 `[N, H, W, 3]`, that all of them pass the gate with.
        steps: How often each runs.
        options: Of `SessionOptions`.
        change: What is other than ours: attributes of onnxruntime's SessionOptions, or entries with a dot in the name.
        copied: Hand the weights over as bytes, instead of letting onnxruntime map them.
        arena_frames: Let the arena grow as for so many frames; None: as for the batch.
    """
    import onnxruntime as ort

    baseline_bytes = resident_bytes()
    bundle = read_bundle(path)
    batch = np.load(frames)
    grows_for = len(batch) if arena_frames is None else arena_frames
    opened = [
        opened_session(ort, bundle, name, session_settings(SessionOptions(**options), grows_for), change, copied)
        for name in graphs
    ]
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
            values = {**state, "frames": batch.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)}
            names = [port.name for port in session.get_outputs()]
            started_s = time.perf_counter()
            results = session.run(names, {name: values[name] for name in shapes})
            seconds.append(time.perf_counter() - started_s)
            written = dict(zip(names, results, strict=True))
            assert written.get("moved", True), "no frame passed the gate"
    timed = seconds[len(opened) - 1 :: len(opened)]
    return {
        "baseline_bytes": baseline_bytes,
        "load_peak_bytes": load_peak_bytes,
        "run_peak_bytes": peak_resident_bytes(),
        "ms": 1e3 * statistics.median(timed[1:] or timed),
    }


def opened_session(ort: Any, bundle: Bundle, graph: str, settings: Any, change: dict[str, Any], copied: bool) -> Any:
    for name, value in change.items():
        if "." in name:
            settings.add_session_config_entry(name, value)
        else:
            kind = type(getattr(settings, name))
            setattr(settings, name, value if kind in (bool, int) else getattr(kind, value))
    if copied:
        content = weights_file(bundle)
        settings.add_external_initializers_from_files_in_memory(["weights.bin"], [content], [len(content)])
        return ort.InferenceSession(
            bundle.graph(graph), settings, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(bundle.file.parent))
    return ort.InferenceSession(
        bundle.relocated_graph(graph), settings, providers=["CPUExecutionProvider"], enable_fallback=0
    )


def weights_file(bundle: Bundle) -> bytes:
    """`weights.bin` as it lies in the bundle."""
    arrays, pieces, end = bundle.weights(), list[bytes | memoryview](), 0
    for entry in bundle.manifest.weights:
        pieces += [bytes(entry.offset - end), memoryview(arrays[entry.name]).cast("B")]
        end = entry.offset + entry.bytes
    return b"".join(pieces)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
