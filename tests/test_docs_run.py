"""What README.md and docs/ show runs: bash blocks in a shell, and the examples, in a folder as a user would have it."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import page_parts
import write_pages

CHECKOUT = Path(__file__).parent.parent
EXAMPLES = CHECKOUT / "docs" / "examples"
CLASSES = ("ant", "bee", "cat", "dog", "elk")
PAGES = {str(page.relative_to(CHECKOUT)): page for page in write_pages.pages()}
WITH_SHELL = [
    name
    for name, page in PAGES.items()
    if any(block.language == "bash" for block in page_parts.blocks(page.read_text(encoding="utf-8")))
]
MAKES_BUNDLE = ("README.md",)
NODE_MODULES = EXAMPLES / "node" / "node_modules"

pytest.importorskip("torch")
image = pytest.importorskip("PIL.Image")


def pictures(folder, count, seed):
    """96 x 96, each class in a colour of its own, and noise."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        colour = np.random.default_rng(len(folder.name) + ord(folder.name[0])).uniform(60, 200, 3)
        pixels = (colour + rng.normal(0, 25, (96, 96, 3))).clip(0, 255).astype(np.uint8)
        image.fromarray(pixels).save(folder / f"{number:04}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures, and the network of docs/examples/own_network.py with weights that are sure of what they say."""
    import torch

    folder = tmp_path_factory.mktemp("made")
    for number, name in enumerate(CLASSES):
        pictures(folder / "pictures" / "train" / name, 4, number)
    pictures(folder / "pictures" / "new", 4, 9)
    torch.manual_seed(0)
    network = runpy.run_path(str(EXAMPLES / "own_network.py"))["build"]()
    network.head.weight.data.mul_(20)
    torch.save(network.state_dict(), folder / "weights.pt")
    return folder


@pytest.fixture(scope="module")
def bundle(made):
    """`net.ecotta`, as the tutorial makes it but for the warm-up."""
    import torch

    from ecotta_rt.prepare.attach import attach
    from ecotta_rt.prepare.engine import initial_state, to_adapt_state
    from ecotta_rt.prepare.export.exporter import export
    from ecotta_rt.prepare.open_network import open_network
    from ecotta_rt.prepare.options import StepOptions
    from ecotta_rt.prepare.partition import partition

    network = open_network(f"{EXAMPLES / 'own_network.py'}:build", checkpoint=made / "weights.pt")
    adaptable = attach(partition(network.eval(), torch.zeros(1, 3, 96, 96), parts=4))
    state = to_adapt_state(initial_state(adaptable), adaptable.digest())
    options = StepOptions(normalisation="running", lr_batch=64)
    state.save(made / "net.ecotta-k4.safetensors")
    export(adaptable, state, made / "net.ecotta", model="own", classes=CLASSES, batches=(1,), options=options)
    return made / "net.ecotta"


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    """Where a user stands: the top of a checkout, with pictures and weights of their own."""
    for name in ("docs", "benchmarks", "devices"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    shutil.copytree(made / "pictures", tmp_path / "pictures")
    shutil.copy(made / "weights.pt", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def home_with_bundle(home, bundle):
    for file in (bundle, bundle.with_name("net.ecotta-k4.safetensors")):
        shutil.copy(file, home)
    return home


@pytest.mark.parametrize("page", WITH_SHELL)
def test_what_a_page_tells_to_type_runs_and_prints_what_it_says(page, request):
    """Block by block in one folder. A `text` block right behind a `bash` block is its output, but for the numbers."""
    request.getfixturevalue("home" if page in MAKES_BUNDLE else "home_with_bundle")
    typed = ""
    for block in page_parts.blocks(PAGES[page].read_text(encoding="utf-8")):
        if block.language == "bash":
            typed = in_a_shell(block.text)
        elif block.language == "text" and block.follows:
            assert shape_of(block.text) in shape_of(typed), f"{block.text}\nis not in\n{typed}"


def in_a_shell(script):
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{script}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def shape_of(text):
    """Without numbers, bars and the width of columns."""
    words = re.sub(r"-?\d[\d.,e+-]*", "#", text)
    return re.sub(r"[\s\u2580-\u259f]+", " ", words).strip()


@pytest.mark.parametrize(
    ("name", "words", "leaves"),
    [
        ("use_runtime.py", ["net.ecotta", "pictures/new"], "adapted.safetensors"),
        ("own_source_and_sink.py", ["net.ecotta"], None),
        ("profile_network.py", [], None),
        ("adapt_with_torch.py", [], "adapted.safetensors"),
    ],
)
def test_an_example_runs(name, words, leaves, home_with_bundle, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *words])
    monkeypatch.syspath_prepend(str(EXAMPLES))

    runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    assert leaves is None or (home_with_bundle / leaves).stat().st_size > 0
    assert leaves == "adapted.safetensors" or capsys.readouterr().out


def test_every_example_is_shown_in_a_page_and_run_here():
    told = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.values())
    here = Path(__file__).read_text(encoding="utf-8")
    files = [
        path for path in EXAMPLES.rglob("*.*") if path.is_file() and not {"node_modules", "__pycache__"} & {*path.parts}
    ]

    assert all(path.name in told for path in files)
    assert all(path.name in here for path in files if path.suffix == ".py")


def test_the_readmes_code_runs(tmp_path, monkeypatch, checkout):
    """One program from top to bottom, in a folder of its own beside the checkout's networks."""
    import torch

    (tmp_path / "benchmarks").symlink_to(checkout / "benchmarks")
    monkeypatch.chdir(tmp_path)
    frames = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    names = {"stream": [frames, frames], "frame": np.zeros((1, 32, 32, 3), np.uint8)}
    blocks = page_parts.blocks(PAGES["README.md"].read_text(encoding="utf-8"))

    exec("\n".join(block.text for block in blocks if block.language == "python"), names)

    assert names["labels"].shape == (4,)
    assert names["prediction"].probabilities.shape == (1, 10)


def test_the_example_for_node_computes_what_python_computes(bundle, tmp_path, monkeypatch):
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "onnxruntime-web").is_dir():
        pytest.skip("no node, or no onnxruntime-web: npm install --prefix docs/examples/node --no-package-lock")
    vectors = tmp_path / "vectors.json"
    monkeypatch.setattr(sys, "argv", ["make_vectors.py", str(bundle), str(vectors)])
    runpy.run_path(str(EXAMPLES / "node" / "make_vectors.py"), run_name="__main__")

    done = subprocess.run(
        # The first of V8's two compilers alone: the second takes longer than all there is to compute here.
        [node, "--liftoff-only", str(EXAMPLES / "node" / "compare.mjs"), str(bundle), str(vectors)],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("learned\n") >= 3
    # Two builds of onnxruntime that add in different orders: float32, values of the order of 1.
    assert float(done.stdout.split()[-1]) < 1e-5
