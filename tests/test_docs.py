"""What the README says runs, and its tables and those of docs/ are of what was measured."""

import re
from pathlib import Path

import numpy as np
import pytest

import render_results
from ecotta_rt.cli.main import COMMANDS

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PAGES = [
    str(page.relative_to(CHECKOUT))
    for page in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")))
    if "BEGIN RESULTS" in page.read_text(encoding="utf-8")
]
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_readmes_code_runs(tmp_path, monkeypatch, checkout):
    """One program from top to bottom, in a folder of its own beside the checkout's networks."""
    torch = pytest.importorskip("torch")
    (tmp_path / "benchmarks").symlink_to(checkout / "benchmarks")
    monkeypatch.chdir(tmp_path)
    frames = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    names = {"stream": [frames, frames], "frame": np.zeros((1, 32, 32, 3), np.uint8)}

    exec("\n".join(BLOCKS), names)

    assert names["labels"].shape == (4,)
    assert names["prediction"].probabilities.shape == (1, 10)
    assert (tmp_path / "adapted.safetensors").is_file()
    assert names["profiler"].report.activation_bytes > 0


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_result_files(checkout, page):
    results = checkout / "benchmarks" / "results"
    text = (checkout / page).read_text()
    names = [name for _, name, _, _ in render_results.BLOCK.findall(text)]
    assert names
    assert all((results / f"{name}.json").is_file() or list((results / name).glob("*.json")) for name in names)
    assert render_results.rendered(text, results) == text


def test_the_readme_names_every_command_and_no_other():
    told = set(re.findall(r"`ecotta ([a-z]+)`", README))

    assert told == set(COMMANDS)


def test_files_that_the_readme_links_exist(checkout):
    targets = re.findall(r"\]\((?!http)([^)]+)\)", README)

    assert targets
    assert all((checkout / target).exists() for target in targets)
