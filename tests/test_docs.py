"""README.md and docs/ say what is so: commands, options, names, links, tables. test_docs_run.py runs what they show."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import ecotta_rt
import page_parts
import render_results
import write_pages
from ecotta_rt.cli.main import COMMANDS
from ecotta_rt.records import Answer, Reason, Why

CHECKOUT = Path(__file__).parent.parent
README = CHECKOUT / "README.md"
PAGES = {str(page.relative_to(CHECKOUT)): page for page in write_pages.pages()}
WITH_TABLES = [name for name, page in PAGES.items() if "BEGIN RESULTS" in page.read_text(encoding="utf-8")]
WITH_PARTS = [name for name, page in PAGES.items() if write_pages.BLOCK.search(page.read_text(encoding="utf-8"))]
FOREIGN = {
    *("--constraint", "--extra-index-url", "--index-url"),  # pip
    *("--memory", "--format", "--mode", "--privileged"),  # docker, install
}
"""Options that pages name and other programs have."""


def options_of_all_commands():
    parsers = [write_pages.parser_of(f"ecotta {name}") for name in COMMANDS] + [write_pages.parser_of("ecotta-bench")]
    return {name for parser in parsers for action in parser._actions for name in action.option_strings}


@pytest.mark.parametrize("page", WITH_TABLES)
def test_tables_are_those_of_the_result_files(checkout, page):
    results = checkout / "benchmarks" / "results"
    text = PAGES[page].read_text(encoding="utf-8")
    names = [match[1] for match in render_results.BLOCK.findall(text)]
    assert names
    assert all((results / f"{name}.json").is_file() or list((results / name).glob("*.json")) for name in names)
    assert render_results.rendered(text, results) == text, "stale tables: run `make pages`"


@pytest.mark.parametrize("page", WITH_PARTS)
def test_parts_of_a_page_are_those_of_the_code(page):
    text = PAGES[page].read_text(encoding="utf-8")

    assert write_pages.written(text) == text, "stale parts: run `make pages`"


def test_every_result_file_is_told_of(checkout):
    told = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.values())
    files = {path.name.removesuffix(".json") for path in (checkout / "benchmarks" / "results").iterdir()}
    # compare_engines.py writes this one for development; its figures are in limits.md.
    assert {name for name in files - {"parity"} if not re.search(rf"RESULTS: {name} |{name}\.json", told)} == set()


def test_the_readme_and_the_reference_name_every_command_and_no_other(checkout):
    reference = (checkout / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `ecotta ([a-z]+)`", README.read_text(encoding="utf-8"), re.MULTILINE)) == set(COMMANDS)
    assert set(re.findall(r"BEGIN COMMAND: ecotta ([a-z]+) ", reference)) == set(COMMANDS)


def test_the_reference_has_every_public_name(checkout):
    reference = (checkout / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    described = set(re.findall(r"BEGIN API: ecotta_rt\.(\w+) -->", reference))

    assert described == set(ecotta_rt.__all__) - {"__version__"}


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_a_page_are_ones_we_understand(page):
    """Every option, the kind of its value, and what goes with what: by our own parsers."""
    for command, *words in page_parts.commands(PAGES[page].read_text(encoding="utf-8")):
        name = command if command == "ecotta-bench" else f"ecotta {words.pop(0)}"
        if "--help" not in words:
            write_pages.parser_of(name).parse_args(words)


@pytest.mark.parametrize("name", [*(f"ecotta {name}" for name in COMMANDS), "ecotta-bench"])
def test_the_examples_of_a_help_are_ones_we_understand(name):
    help_text = write_pages.command(name).partition("```text")[2].partition("```")[0]
    examples = page_parts.commands(f"```bash\n{help_text}\n```\n")

    assert examples
    for command, *words in examples:
        other = command if command == "ecotta-bench" else f"ecotta {words.pop(0)}"
        if not other.endswith("COMMAND") and "--help" not in words:
            write_pages.parser_of(other).parse_args(words)


@pytest.mark.parametrize("page", PAGES)
def test_options_named_in_a_page_exist(page):
    code = page_parts.inline_code(PAGES[page].read_text(encoding="utf-8"))
    named = {option for text in code for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", text)}

    assert named - options_of_all_commands() - FOREIGN - {"--help", "--version"} == set()


@pytest.mark.parametrize("page", PAGES)
def test_files_targets_and_extras_named_in_a_page_exist(checkout, page):
    text = PAGES[page].read_text(encoding="utf-8")
    named = [word for code in page_parts.inline_code(text) for word in code.split()]
    files = [
        word for word in named if re.fullmatch(r"(benchmarks|devices|docs|ecotta_rt|scripts|tests)/[\w./*-]*", word)
    ]
    makefile, setup = ((checkout / name).read_text(encoding="utf-8") for name in ("Makefile", "setup.cfg"))
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE))
    extras = set(
        re.findall(r"^(\w+) =$", setup.partition("[options.extras_require]")[2].partition("\n[")[0], re.MULTILINE)
    )

    assert [file for file in files if not list(checkout.glob(file.rstrip("/")))] == []
    assert set(re.findall(r"(?:^ {4}|`)(?:sudo )?make ([a-z0-9-]+)", text, re.MULTILINE)) <= targets
    assert {extra for found in re.findall(r"'\.\[([\w,]+)\]'", text) for extra in found.split(",")} <= extras


@pytest.mark.parametrize("page", [*PAGES, "devices/README.md"])
def test_links_lead_somewhere(checkout, page):
    path = checkout / page
    targets = page_parts.links(path.read_text(encoding="utf-8"))

    assert [target for target in targets if not page_parts.leads_somewhere(path, target)] == []


def test_every_word_of_a_runs_lines_is_told(checkout):
    told = page_parts.inline_code((checkout / "docs" / "reference" / "output.md").read_text(encoding="utf-8"))
    words = {field.name for field in fields(Answer)} | {*get_args(Why), *get_args(Reason)}

    assert words - set(told) == set()


def test_every_page_is_in_the_contents(checkout):
    docs = checkout / "docs"
    pages = {str(page.relative_to(docs).with_suffix("")) for page in docs.rglob("*.md") if "examples" not in page.parts}
    tree = set(re.findall(r"^   ([\w/-]+)$", (docs / "index.rst").read_text(encoding="utf-8"), re.MULTILINE))
    listed = {link.removesuffix(".md") for link in page_parts.links((docs / "README.md").read_text(encoding="utf-8"))}

    assert tree == listed == pages - {"README"}


def test_the_readme_stays_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def test_figures_in_the_readmes_prose_stand_in_the_table_they_are_from(checkout):
    """What is said of learning, of CIFAR-10: every error rate is one of the rendered table."""
    text = README.read_text(encoding="utf-8")
    said = set(re.findall(r"\d\d\.\d\d(?= %)", text.partition("**What pays.**")[2].partition("\n## ")[0]))
    results = (checkout / "docs" / "results.md").read_text(encoding="utf-8")
    table = results.partition("BEGIN RESULTS: cifar-10-seeds")[2].partition("END RESULTS")[0]

    assert said
    assert said <= set(re.findall(r"\d\d\.\d\d", table))
