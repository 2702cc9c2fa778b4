"""The small bundle taken apart, and put together again with something wrong in it."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.files.stored_zip import NewMember, checksum, write_stored_zip


class TakenApart:
    """The members of a bundle, to be changed one by one.

    Attributes:
        members: Name -> content, in order. The manifest's content is written from `manifest`.
        manifest: The parsed manifest.
        path: Where `pack` writes.
    """

    def __init__(self, bundle: Path, path: Path) -> None:
        with zipfile.ZipFile(bundle) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
        self.manifest = json.loads(self.members["manifest.json"])
        self.path = path

    def replace_graph(self, name: str, content: bytes) -> None:
        """Put another graph in its place, and tell the manifest its size and digest."""
        entry = next(graph for graph in self.manifest["graphs"] if graph["name"] == name)
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        self.members[f"graphs/{name}.onnx"] = content

    def replace_state(self, content: bytes) -> None:
        """Put another state in its place, and tell the manifest its digest."""
        self.manifest["state_sha256"] = hashlib.sha256(content).hexdigest()
        self.members["state.safetensors"] = content

    def put_tables(self, content: bytes, **arrays: dict) -> None:
        """Give it tables, as the manifest shall describe them."""
        self.manifest["tables"] = [{"name": name, **described} for name, described in arrays.items()]
        self.manifest["tables_sha256"] = hashlib.sha256(content).hexdigest()
        self.members["tables.safetensors"] = content

    def pack(self, *, manifest: bytes | None = None, page_bytes: int = 4096) -> Path:
        """Write a zip of the members, well-formed as a zip."""
        text = json.dumps(self.manifest).encode() if manifest is None else manifest
        contents = {**self.members, **({"manifest.json": text} if "manifest.json" in self.members else {})}
        with self.path.open("wb") as file:
            write_stored_zip(
                file,
                [
                    NewMember(
                        name,
                        len(content),
                        checksum([content]),
                        lambda content=content: [content],
                        page_bytes if name == "weights.bin" else 1,
                    )
                    for name, content in contents.items()
                ],
            )
        return self.path


def read_all(path: Path) -> None:
    """Look at everything that is in a bundle."""
    bundle = read_bundle(path)
    bundle.initial_state()
    for graph in bundle.manifest.graphs:
        bundle.graph(graph.name)


@pytest.fixture(name="read_all", scope="session")
def read_all_fixture():
    return read_all


@pytest.fixture(scope="session")
def small(checkout):
    return checkout / "tests" / "hostile" / "small.ecotta"


@pytest.fixture
def parts(small, tmp_path):
    return TakenApart(small, tmp_path / "hostile.ecotta")
