"""Let onnxruntime optimise a graph of a bundle, and read what it made."""

import tempfile

from ecotta_rt.bundle import Bundle
from ecotta_rt.files.onnx_graph import Graph
from ecotta_rt.files.onnx_reader import read_model
from ecotta_rt.files.temporary import temporary_folder
from ecotta_rt.options import SessionOptions
from ecotta_rt.session.opening import open_session

__all__ = ["optimised_graph"]


def optimised_graph(bundle: Bundle, name: str, optimisation: str) -> Graph:
    """The graph as a session with these options would run it, here.

    Which kernels it is optimised for depends on this processor: with "all", the width of its vectors.

    Args:
        bundle: Where it is.
        name: Of the graph.
        optimisation: One of `ecotta_rt.options.OPTIMISATIONS`.

    Raises:
        UsageError: The bundle has no such graph.
        InputFileError: onnxruntime refuses it.
    """
    with temporary_folder(tempfile.gettempdir(), "ecotta-plan-") as folder:
        path = folder / "optimised.onnx"
        open_session(bundle, name, SessionOptions(optimisation=optimisation), optimised=path)
        return read_model(path.read_bytes(), f"{name}, as onnxruntime has optimised it").graph
