"""README.md and docs/ say what is so: commands, options, names, links, tables. test_docs_run.py runs what they show."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import ecotta_rt
import page_parts
import render_results
import write_pages
from ecotta_rt.cli import state, student
from ecotta_rt.cli.main import COMMANDS
from ecotta_rt.errors import EcottaError
from ecotta_rt.events import Answer, Reason
from ecotta_rt.records import Why
from ecotta_rt.sinks.event_fields import EVENT_NAMES, event_fields
from fixtures.events import EVENTS

CHECKOUT = Path(__file__).parent.parent
README = CHECKOUT / "README.md"
PAGES = {str(page.relative_to(CHECKOUT)): page for page in write_pages.pages()}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
FOREIGN = {
    *("--constraint", "--extra-index-url", "--index-url"),  # pip
    *("--memory", "--format", "--mode", "--privileged", "--upgrade"),  # docker, install, pip
    *("--load", "--rm", "--install"),  # docker buildx, docker run, binfmt
    *("--unit", "--follow", "--detach", "--force-recreate", "--signal"),  # journalctl, docker compose
    *("--node-config", "--run-config", "--ssl-certfile", "--enable-supernode-auth"),  # Flower
    *("--list-cameras", "--list-devices", "--system-site-packages"),  # rpicam-hello, v4l2-ctl, venv
}
"""Options that pages name and other programs have."""


INNER = {"ecotta state": state.SUBCOMMANDS, "ecotta student": student.SUBCOMMANDS}
ALL_COMMANDS = [f"ecotta {name}" for name in COMMANDS]
ALL_COMMANDS += [*(f"{name} {inner}" for name, words in INNER.items() for inner in words), "ecotta-bench"]


def options_of_all_commands():
    parsers = [write_pages.parser_of(name) for name in ALL_COMMANDS]
    return {name for parser in parsers for action in parser._actions for name in action.option_strings}


def test_tables_are_those_of_the_result_files(checkout):
    results = checkout / "benchmarks" / "results"
    names = {page: [match[1] for match in render_results.BLOCK.findall(text)] for page, text in TEXTS.items()}
    known = {name for name in {name for found in names.values() for name in found} if known_result(results, name)}

    assert known
    assert [(page, name) for page, found in names.items() for name in found if name not in known] == []
    stale = [page for page, text in TEXTS.items() if names[page] and render_results.rendered(text, results) != text]
    assert stale == [], "stale tables: run `make pages`"


def known_result(results, name):
    return (results / f"{name}.json").is_file() or list((results / name).glob("*.json"))


def test_parts_of_a_page_are_those_of_the_code():
    with_parts = {page: text for page, text in TEXTS.items() if write_pages.BLOCK.search(text)}

    assert with_parts
    stale = [page for page, text in with_parts.items() if write_pages.written(text) != text]
    assert stale == [], "stale parts: run `make pages`"


def test_every_result_file_is_told_of(checkout):
    told = "\n".join(TEXTS.values())
    files = {path.name.removesuffix(".json") for path in (checkout / "benchmarks" / "results").iterdir()}
    # compare_engines.py writes this one for development; its figures are in limits.md.
    assert {name for name in files - {"parity"} if not re.search(rf"RESULTS: {name} |{name}\.json", told)} == set()


def test_the_readme_and_the_reference_name_every_command_and_no_other(checkout):
    reference = (checkout / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")

    rows = "\n".join(re.findall(r"^\| (`ecotta .*?) \|", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`ecotta ([a-z]+)`", rows)) == set(COMMANDS)
    assert set(re.findall(r"BEGIN COMMAND: (ecotta.*?) -->", reference)) == set(ALL_COMMANDS)


def test_the_reference_has_every_public_name(checkout):
    reference = (checkout / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    described = set(re.findall(r"BEGIN API: ecotta_rt\.(\w+) -->", reference))

    assert described == set(ecotta_rt.__all__) - {"__version__"}
    assert set(re.findall(r"BEGIN API: ecotta_rt\.student\.(\w+) -->", reference)) == set(ecotta_rt.student.__all__)


def refused(commands):
    """Those command lines that our own parsers refuse: an option, the kind of its value, or what goes with what."""
    for command, *words in commands:
        line = " ".join([command, *words])
        name = command if command == "ecotta-bench" else f"ecotta {words.pop(0)}"
        if words and words[0] in INNER.get(name, ()):
            name = f"{name} {words.pop(0)}"
        if not name.endswith("COMMAND") and "--help" not in words:
            try:
                write_pages.parser_of(name).parse_args(words)
            except (SystemExit, EcottaError) as error:
                yield f"{line}: {error}"


def test_commands_in_a_page_are_ones_we_understand():
    commands = {page: page_parts.commands(text) for page, text in TEXTS.items()}

    assert [(page, line) for page, found in commands.items() for line in refused(found)] == []


def test_the_examples_of_a_help_are_ones_we_understand():
    for name in ALL_COMMANDS:
        help_text = write_pages.command(name).partition("```text")[2].partition("```")[0]
        examples = page_parts.commands(f"```bash\n{help_text}\n```\n")

        assert examples, name
        assert [*refused(examples)] == [], name


def test_a_command_line_that_nobody_understands_is_found():
    assert [*refused([["ecotta", "devices", "--colour"]])] == ["ecotta devices --colour: 2"]


def test_options_named_in_a_page_exist():
    known = options_of_all_commands() | FOREIGN | {"--help", "--version"}
    named = {
        (page, option)
        for page, text in TEXTS.items()
        for code in page_parts.inline_code(text)
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
    }

    assert {(page, option) for page, option in named if option not in known} == set()


def test_files_named_in_a_page_exist(checkout):
    named = {
        (page, word)
        for page, text in TEXTS.items()
        for code in page_parts.inline_code(text)
        for word in code.split()
        if re.fullmatch(r"(benchmarks|devices|docs|ecotta_rt|scripts|tests)/[\w./*-]*", word)
    }

    assert {(page, file) for page, file in named if not list(checkout.glob(file.rstrip("/")))} == set()


def test_make_targets_named_in_a_page_exist(checkout):
    makefile = (checkout / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE))

    assert named_in_pages(r"(?m)(?:^ {4}|`)(?:sudo )?make ([a-z0-9-]+)", targets) == set()


def test_extras_named_in_a_page_exist(checkout):
    section = (checkout / "setup.cfg").read_text(encoding="utf-8").partition("[options.extras_require]")[2]
    extras = set(re.findall(r"^(\w+) =$", section.partition("\n[")[0], re.MULTILINE))

    assert named_in_pages(r"(?:'\.\[|(?<=\w),)(\w+)(?=[\w,]*\]')", extras) == set()


def named_in_pages(pattern, known):
    """Page and word of what the pattern finds and nobody knows; it has to find something."""
    named = {(page, word) for page, text in TEXTS.items() for word in re.findall(pattern, text)}
    assert named
    return {(page, word) for page, word in named if word not in known}


def test_links_lead_somewhere(checkout):
    pages = {**TEXTS, "devices/README.md": (checkout / "devices" / "README.md").read_text(encoding="utf-8")}
    dead = [
        (page, target)
        for page, text in pages.items()
        for target in page_parts.links(text)
        if not page_parts.leads_somewhere(checkout / page, target)
    ]

    assert dead == []


def test_every_word_of_a_runs_lines_is_told(checkout):
    told = page_parts.inline_code((checkout / "docs" / "reference" / "output.md").read_text(encoding="utf-8"))
    words = {field.name for field in fields(Answer)} | {*get_args(Why), *get_args(Reason), *EVENT_NAMES}
    words |= {word for event in EVENTS for word in event_fields(event)}

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
