"""The files that cases of the onnx engine need: found, or made, once in a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ecotta_rt.bench.bundles import BundleOrder, ForwardOrder
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.exporting import Say, bundle_for, forward_for
from ecotta_rt.bench.network_files import NetworkFiles
from ecotta_rt.errors import EcottaError

__all__ = ["Graphs"]


class Graphs:
    """Bundles and inference-only graphs of one network.

    Args:
        files: The network.
        orders: (method id, normalisation) -> bundle, which may have to be made.
        named: Normalisation -> bundle that the user named.
        say: Hears what is being made.
    """

    def __init__(
        self,
        files: NetworkFiles,
        orders: Mapping[tuple[str, str], BundleOrder],
        named: Mapping[str, Path],
        say: Say,
    ) -> None:
        self._network, self._orders, self._named, self._say = str(files.network), orders, named, say
        self._bundles: dict[tuple[str, str], Path | EcottaError] = {}

    def forward(self, batch: int) -> Path:
        """The inference-only graph for so many frames. Raises as `bundle_for`."""
        return forward_for(ForwardOrder(self._network, batch), self._say)

    def given(self, case: Case) -> Case:
        """The case with the files that it needs.

        Raises:
            EcottaError: One of them cannot be made.
        """
        if case.engine != "onnx":
            return case
        forward = str(self.forward(case.batch))
        if not case.from_bundle:
            return replace(case, forward=forward)
        return replace(case, forward=forward, bundle=str(self._bundle(case.method, case.normalisation)))

    def _bundle(self, method: str, normalisation: str) -> Path:
        key = (method, normalisation)
        if key not in self._bundles:
            try:
                self._bundles[key] = self._named.get(normalisation) or bundle_for(self._orders[key], self._say)
            except EcottaError as error:
                self._bundles[key] = error
        bundle = self._bundles[key]
        if isinstance(bundle, EcottaError):
            raise bundle
        return bundle
