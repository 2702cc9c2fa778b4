"""The trained networks beside the bench, found by name.

| file | holds |
| --- | --- |
| wrn-40-2-fashion-mnist.safetensors | a network and the data set it was trained on |
| wrn-40-2-fashion-mnist.ecotta-k4.safetensors | its warmed-up meta groups, one file a number of parts |
| wrn-40-2-fashion-mnist.fine-tuned.safetensors | the same network fine-tuned on the warm-up data |
"""

import hashlib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ecotta_rt.data.image_sets import assets_folder
from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.files.kinds import open_regular

__all__ = ["NetworkFiles", "dataset_of", "find_network", "sha256_of"]

_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class NetworkFiles:
    """One trained network and what was made from it.

    Attributes:
        model: Model id.
        dataset: What it was trained on.
        network: Its file, which exists.
    """

    model: str
    dataset: str
    network: Path

    def beside(self, kind: str) -> Path:
        """The file of `kind` (`ecotta-k4`, `fine-tuned`) made from this network; it may be missing."""
        return self.network.with_name(f"{self.network.name.removesuffix(_SUFFIX)}.{kind}{_SUFFIX}")

    def kind_of(self, path: Path) -> str:
        """The kind of a file that stands beside this network: the inverse of `beside`."""
        return path.name.removeprefix(f"{self.network.name.removesuffix(_SUFFIX)}.").removesuffix(_SUFFIX)

    def digest(self) -> str:
        """SHA-256 of the network's file, in hexadecimal."""
        return sha256_of(self.network)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dataset_of(stream: str) -> str:
    """The data set whose images a stream corrupts.

    >>> dataset_of("fashion-mnist-c"), dataset_of("cifar-10 (corrupted here)")
    ('fashion-mnist', 'cifar-10')
    """
    return stream.split()[0].removesuffix("-c")


def find_network(model: str, dataset: str) -> NetworkFiles:
    """Find the trained network of a model and a data set.

    Args:
        model: Model id, or the path of a network file that ends in .safetensors.
        dataset: What it was trained on.

    Raises:
        UsageError: There is no such network; the message lists those there are.
        Unavailable: There are none at all.
    """
    if model.endswith(_SUFFIX):
        return _named_file(Path(model), dataset)
    folder = assets_folder() / "networks"
    path = folder / f"{model}-{dataset}{_SUFFIX}"
    if path.is_file() and path.parent == folder:
        return NetworkFiles(model, dataset, path)
    names = sorted(file.name.removesuffix(_SUFFIX) for file in folder.glob(f"*{_SUFFIX}"))
    trained = [name for name in names if "." not in name]
    if not trained:
        raise Unavailable(f"no trained network in {folder}; get the repository's folder `benchmarks` anew")
    models = [name.removesuffix(f"-{dataset}") for name in trained if name.endswith(f"-{dataset}")]
    nearest = get_close_matches(model, models, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise UsageError(f"no {model!r} trained on {dataset} in {folder}; there are: {', '.join(trained)}{hint}")


def _named_file(path: Path, dataset: str) -> NetworkFiles:
    if not path.is_file():
        raise UsageError(f"--model {path}: no such file")
    return NetworkFiles(path.name.removesuffix(_SUFFIX), dataset, path)
