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
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse")
PAGES = {str(page.relative_to(CHECKOUT)): page for page in write_pages.pages()}
WITH_SHELL = [
    name
    for name, page in PAGES.items()
    if any(block.language == "bash" for block in page_parts.blocks(page.read_text(encoding="utf-8")))
]
MAKES_BUNDLE = ("README.md", "docs/tutorials/own-network.md")
NODE_MODULES = EXAMPLES / "node" / "node_modules"

pytest.importorskip("torch")
image = pytest.importorskip("PIL.Image")


def save_pictures(folder, count, kind, seed):
    """100 x 120, each kind with slopes of its own under some noise."""
    rng, slopes = np.random.default_rng(seed), np.random.default_rng(kind).normal(0, 60, (2, 3))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        down, across = np.linspace(-1, 1, 100)[:, None, None], np.linspace(-1, 1, 120)[None, :, None]
        pixels = 128 + down * slopes[0] + across * slopes[1] + rng.normal(0, 20, (100, 120, 3))
        image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{kind}-{number:03}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures in class folders, and the network of docs/examples/own_network.py that has learned some of them."""
    import torch

    folder = tmp_path_factory.mktemp("made")
    for kind, name in enumerate(CLASSES):
        save_pictures(folder / "pictures" / "train" / name, 16, kind, seed=kind)
        save_pictures(folder / "pictures" / "val" / name, 4, kind, seed=10 + kind)
        save_pictures(folder / "new-pictures", 1, kind, seed=20 + kind)
    torch.manual_seed(0)
    network = runpy.run_path(str(EXAMPLES / "own_network.py"))["build"]()
    teach(network, folder / "pictures" / "train")
    torch.save(network.state_dict(), folder / "weights.pt")
    return folder


def teach(network, folder):
    import torch

    files = [(path, kind) for kind, name in enumerate(CLASSES) for path in sorted((folder / name).iterdir())[:4]]
    frames = [np.asarray(image.open(path).resize((96, 96)), np.float32) / 255 for path, _ in files]
    frames = torch.from_numpy(np.stack(frames).transpose(0, 3, 1, 2))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(frames), torch.tensor([kind for _, kind in files]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def bundle(made):
    """`net.ecotta`, as the tutorial makes it but for the warm-up."""
    import torch

    from ecotta_rt.exporter.export import export
    from ecotta_rt.exporter.request import ExportOptions
    from ecotta_rt.method.attach import attach
    from ecotta_rt.method.cut.partition import partition
    from ecotta_rt.method.state import initial_state, to_adapt_state
    from ecotta_rt.options import StepOptions
    from ecotta_rt.prepare.open_network import open_network

    network = open_network(f"{EXAMPLES / 'own_network.py'}:build", checkpoint=made / "weights.pt")
    adaptable = attach(partition(network.eval(), torch.zeros(1, 3, 96, 96), parts=4))
    state = to_adapt_state(initial_state(adaptable), adaptable.digest())
    options = StepOptions(normalisation="running", lr_batch=64)
    state.save(made / "net.ecotta-k4.safetensors")
    export(
        adaptable, state, made / "net.ecotta", ExportOptions(model="own", classes=CLASSES, batches=(1,), step=options)
    )
    return made / "net.ecotta"


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    """Where a user stands: the top of a checkout, with pictures and weights of their own."""
    for name in ("docs", "benchmarks", "devices"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    for name in ("pictures", "new-pictures"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copy(made / "weights.pt", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def home_with_bundle(home, bundle):
    for file in (bundle, bundle.with_name("net.ecotta-k4.safetensors")):
        shutil.copy(file, home)
    return home


@pytest.mark.parametrize(
    "page",
    # Two warm-ups and a profile, each in a process with torch: the README shows that they run.
    [pytest.param(page, marks=[pytest.mark.slow] * page.endswith("own-network.md")) for page in WITH_SHELL],
)
def test_what_a_page_tells_to_type_runs_and_prints_what_it_says(page, request):
    """Block by block in one folder. A `text` block right behind a `bash` block is its output, but for the numbers."""
    request.getfixturevalue("home" if page in MAKES_BUNDLE else "home_with_bundle")
    typed = ""
    for block in page_parts.blocks(PAGES[page].read_text(encoding="utf-8")):
        if block.language == "bash":
            typed = in_a_shell(block.text)
        elif block.language == "text" and block.follows:
            assert is_shown(typed, block.text), f"{block.text}\nis not what was printed:\n{typed}"


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


def is_shown(output, shown):
    """Line by line, with anything where `...` stands; numbers and answers are those of another network."""
    pieces = [shape_of(piece) for piece in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    return re.search(".*".join(map(re.escape, pieces)), shape_of(output))


def shape_of(text):
    """Without numbers, values in quotes, truth values, and the width of columns."""
    words = re.sub(r'(?<=: )("[^"]*"|true|false|\.\.\.|-?\d[\d.e+-]*)|\d[\d.,]*', "#", text)
    return re.sub(r"\s+", " ", words).strip()


@pytest.mark.parametrize(
    ("name", "words", "leaves"),
    [
        ("use_runtime.py", ["net.ecotta", "new-pictures"], "adapted.safetensors"),
        ("own_source_and_sink.py", ["net.ecotta"], None),
        ("live_cameras.py", ["net.ecotta", "door=new-pictures", "yard=new-pictures"], None),
        ("live_asyncio.py", ["net.ecotta", "door=new-pictures"], None),
        ("live_pictures.py", ["net.ecotta"], None),
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


def run_python_of(page):
    """One program from top to bottom; its names."""
    names = {}
    blocks = page_parts.blocks(PAGES[page].read_text(encoding="utf-8"))
    exec("\n".join(block.text for block in blocks if block.language == "python"), names)
    return names


def test_the_readmes_python_runs(home_with_bundle):
    names = run_python_of("README.md")

    assert names["prediction"].probabilities.shape == (1, len(CLASSES))
    assert (home_with_bundle / "adapted.safetensors").is_file()


def test_the_python_for_several_cameras_runs(home_with_bundle):
    runtime = run_python_of("docs/explanation/adaptation.md")["runtime"]

    assert runtime.restore(home_with_bundle / "door.state.safetensors")


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
