"""One graph of a bundle, started and bound to the buffers that it reads and writes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import Bundle
from ecotta_rt.errors import InputFileError
from ecotta_rt.options import SessionOptions
from ecotta_rt.session.interrupted import Interrupted
from ecotta_rt.session.opening import first_line, open_session, short_of_memory

__all__ = ["GraphRun"]

_MOST_VALUES = 64


class GraphRun:
    """One graph, started, with its small results in buffers of its own.

    Args:
        bundle: Where the graph is.
        graph: Its name.
        options: How to run it.
        run_options: onnxruntime's, by which somebody else may end a run; None where nobody does.
        constants: Inputs that shall have these values as long as it is open, by name; where the graph allows it.

    Attributes:
        entry: What the manifest says of it.
        fixed: Whether there are such inputs.
        writes: Parts of the state that it gives back.
        has_run: Whether its tensors have had their memory.
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: str,
        options: SessionOptions,
        run_options: Any,
        constants: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
    ) -> None:
        entry = bundle.manifest.graph(graph)
        assert entry is not None
        self.entry = entry
        self.has_run = False
        self._origin = f"{bundle.path}, graph {graph!r}"
        self._options = options
        if constants and not bundle.allows_constants(graph, constants):
            constants = {}
        self.fixed = bool(constants)
        self._session = open_session(bundle, graph, options, constants=constants)
        self._run_options = run_options
        self._binding = self._session.io_binding()
        self._inputs = [port.name for port in entry.inputs if port.name not in constants]
        self._state_outputs = {port.name: port.name.removeprefix("next_") for port in entry.outputs}
        self.writes = tuple(self._state_outputs[name] for name in self._state_outputs if name.startswith("next_"))
        self._results = {
            port.name: np.zeros(port.shape, port.dtype) for port in entry.outputs if not port.name.startswith("next_")
        }
        self._values: dict[int, Any] = {}  # onnxruntime's view of each array it has seen; the arrays live as long as we

    def __call__(
        self, frames: NDArray[np.float32] | None, reads: Mapping[str, NDArray[Any]], writes: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Run once.

        Args:
            frames: For the input `frames`, where there is one.
            reads: The other inputs by name.
            writes: Where outputs `next_NAME` go, by NAME.

        Returns:
            The other outputs, in buffers that the next run overwrites.

        Raises:
            InputFileError: onnxruntime cannot run it.
            BudgetExceeded: There is no memory for its tensors below the ceiling.
            Interrupted: The run options say so.
        """
        for name in self._inputs:
            array = frames if name == "frames" else reads[name]
            self._binding.bind_ortvalue_input(name, self._value(array))
        for output, name in self._state_outputs.items():
            array = self._results[output] if output in self._results else writes[name]
            self._binding.bind_ortvalue_output(output, self._value(array))
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
            self.has_run = True
        except Exception as error:  # onnxruntime's errors have no common base
            if self._run_options is not None and self._run_options.terminate:
                raise Interrupted(f"{self._origin}: given up half-way") from error
            raise short_of_memory(error, self._origin, self._options) or InputFileError(
                f"{self._origin}: onnxruntime could not run it: {first_line(error)}"
            ) from error
        return self._results

    def forget_buffers(self) -> None:
        """Let go of all arrays that were read and written so far; they live no longer than others hold them."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        self._values.clear()

    def _value(self, array: Any) -> Any:
        import onnxruntime as ort

        # An OrtValue of a numpy array shares its memory: the array must outlive it, hence the pair.
        known = self._values.get(id(array))
        if known is None or known[0] is not array:
            known = self._values[id(array)] = (array, ort.OrtValue.ortvalue_from_numpy(array))
            if len(self._values) > _MOST_VALUES:
                self._values.pop(next(iter(self._values)))
        return known[1]
