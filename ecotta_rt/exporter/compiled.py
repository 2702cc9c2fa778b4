"""The graphs of a bundle before it has its state.

Weights of groups, momentum and statistics go into a graph and come out of it, so what is compiled for untrained groups
serves those that were warmed up since: what can fail fails before hours of training, and nothing is compiled twice.
Only where statistics are constants of the graph, in `source` mode or of norms that are held, does a bundle need graphs
of its own state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ecotta_rt.bundle import GraphFacts, Manifest, write_bundle
from ecotta_rt.bundle.tables import Table
from ecotta_rt.exporter.code_digest import code_digest
from ecotta_rt.exporter.fitting import fitting_graphs, planned
from ecotta_rt.files.temporary import temporary_folder
from ecotta_rt.machine.device import DeviceProfile
from ecotta_rt.options import FIXED
from ecotta_rt.state import AdaptState

__all__ = ["Compiled"]


@dataclass(frozen=True)
class Compiled:
    """From `compile_graphs`.

    Attributes:
        graphs: What each is for, and its ONNX file, by name.
        contents: What else `write_bundle` takes, but for the state and the metadata.
    """

    graphs: Mapping[str, tuple[GraphFacts, bytes]]
    contents: Mapping[str, Any]

    @property
    def takes_any_state(self) -> bool:
        """Whether the graphs hold nothing of the state that they were compiled with."""
        return self.contents["normalisation"] not in FIXED and not self.contents["layout"].held

    def fits(self, state: AdaptState) -> bool:
        """Whether `state` is of the network that they were compiled for."""
        return str(self.contents["network_digest"]) == state.network_digest

    def write(
        self,
        path: Path,
        state: AdaptState,
        adaptation: Mapping[str, str | float | int | bool] = MappingProxyType({}),
        tables: Mapping[str, Table] = MappingProxyType({}),
    ) -> Manifest:
        """Write them as a bundle that begins with `state`.

        Args:
            path: Where to.
            state: Of the network that they were compiled for.
            adaptation: How the device follows the stream.
            tables: Arrays that this needs, float32 or float16, by name.

        Raises:
            UsageError: `state` belongs to another network.
            TransferError: `path` cannot be written.
        """
        metadata = {**state.metadata, "exporter": code_digest()}
        recipe = {"adaptation": adaptation, "tables": tables}
        return write_bundle(path, graphs=self.graphs, state=state, metadata=metadata, **recipe, **self.contents)  # type: ignore[arg-type]

    def with_plans(self, path: Path, state: AdaptState, device: DeviceProfile | None) -> "Compiled":
        """With what running each graph needs, and without those that `device` has no room for.

        Args:
            path: Beside it a bundle is written for onnxruntime to read, and removed again.
            state: Some state, for that bundle.
            device: None keeps all.

        Raises:
            BudgetExceeded: No graph that learns fits on `device`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent, f".{path.name}.") as folder:
            self.write(folder / "first.ecotta", state)
            manifest = planned(folder / "first.ecotta")
        kept = fitting_graphs(manifest, device) if device is not None else self.graphs.keys()
        sessions = {graph.name: graph.sessions for graph in manifest.graphs}
        graphs = {
            name: (replace(facts, sessions=sessions[name]), content)
            for name, (facts, content) in self.graphs.items()
            if name in kept
        }
        return replace(self, graphs=graphs)
