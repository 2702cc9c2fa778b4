"""Whatever stands on a command line, no command calls it a bug of ours, and none shows a traceback.

The command lines are made from the parsers themselves, so that a new option is tried from its first day. No long work
is begun: data sets do not exist, networks are none or tiny, and what would measure or fetch is cut off.
"""

import argparse
import os
import shutil
from importlib import import_module

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ecotta_rt.cli import bench, state, student
from ecotta_rt.cli.bench_options import bench_parser
from ecotta_rt.cli.main import COMMANDS, main
from ecotta_rt.demo import ladder
from ecotta_rt.errors import Unavailable
from ecotta_rt.run import least_memory

NUMBERS = ["0", "1", "2", "-1", "1.5", "nan", "inf", "-inf", "1e400", "", "x", "1025", "65537", "9" * 5000]
NUMBERS += [str(2**31 - 1), str(2**31), str(2**63), str(-(2**63))]
WORDS = ["", "x", "all", "a,b", ",", "-", "--", "1MiB", "100GiB", "pixel", "this-machine", "32x32", "a\nb", "\x1b[2J"]
FILES = ["net.ecotta", "torn.ecotta", "net.state.safetensors", "torn.safetensors", "board.toml", "huge.toml", "text"]
PATHS = ["", ".", "/", "..", "nowhere", "nowhere/file", "folder", "pipe", "loop", "/dev/null", "/dev/full", "new.json"]
PATHS += [*FILES, "a.toml/", "x" * 300, "caf\udce9", "text/below", "film.mp4", "network.py:make", "/dev/stdout"]
SOURCES = ["folder", "nowhere", "text", "film.mp4", "replay:folder", "replay:", "replay:a:b:c", "replay:x:fog:9"]
SOURCES += ["/dev/video99", "pipe", "rtsp://", "http://", "://", ""]


def parser_of(name):
    parser = argparse.ArgumentParser(name)
    import_module(f"ecotta_rt.cli.{name.replace(' ', '_')}").add_arguments(parser)
    return parser


NAMES = [*COMMANDS, *(f"{module.NAME} {name}" for module in (state, student) for name in module.SUBCOMMANDS)]
PARSERS = {**{name: parser_of(name) for name in NAMES}, "bench": bench_parser()}

# So that nothing long begins: what each command line has in any case.
ALWAYS = {
    "doctor": ["--quick"],
    **{name: ["--data", "nowhere"] for name in ("bench", "prepare", "tune", "student rank")},
}
NEVER = {"--help", "--version", "--data", "--quick"}


def values(action):
    """Words for the value of an option: right ones, and others."""
    if action.choices:
        return st.sampled_from([*map(str, action.choices), "", "x"])
    if action.dest == "source":
        return st.sampled_from(SOURCES)
    named = getattr(action.type, "__name__", "str")
    kinds = {"float": NUMBERS, "convert": NUMBERS, "Path": PATHS, "str": [*WORDS, *PATHS]}
    return st.sampled_from(kinds.get(named, [*WORDS, *NUMBERS]))


@st.composite
def command_lines(draw, name):
    """One command line of a command."""
    actions = PARSERS[name]._actions
    line = []
    for action in draw(st.permutations([action for action in actions if action.option_strings])):
        if NEVER & set(action.option_strings) or not (action.required or draw(st.integers(0, 3)) == 0):
            continue
        count = {None: 1, "?": draw(st.integers(0, 1)), 0: 0}.get(action.nargs, draw(st.integers(0, 2)))
        line += [action.option_strings[-1], *(draw(values(action)) for _ in range(count))]
    positional = [draw(values(action)) for action in actions if not action.option_strings]
    return [*positional, *line, *ALWAYS.get(name, [])]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, small):
    """A folder with a file of every kind."""
    folder = tmp_path_factory.mktemp("pristine")
    shutil.copy(small, folder / "net.ecotta")
    bundle = (folder / "net.ecotta").read_bytes()
    (folder / "torn.ecotta").write_bytes(bundle[: len(bundle) // 2])
    (folder / "torn.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    (folder / "net.state.safetensors").write_bytes(b"")
    (folder / "text").write_text("text\n")
    (folder / "film.mp4").write_text("no film\n")
    (folder / "network.py").write_text("def make():\n    raise SystemExit('no network')\n")
    (folder / "board.toml").write_text("schema = 1\n")
    (folder / "huge.toml").write_text(f"schema = 0x{'f' * 15_000}\n")
    (folder / "folder").mkdir()
    for index in range(3):
        np.save(folder / "folder" / f"{index}.npy", np.full((8, 8, 3), 80 * index, np.uint8))
    (folder / "loop").symlink_to("loop")
    return folder


def cut_off(*_):
    """In place of a minute of demo."""
    raise Unavailable("cut off")


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=25, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_no_command_line_is_a_bug_of_ours(name, data, pristine, tmp_path_factory, monkeypatch, capsys):
    line = data.draw(command_lines(name))
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(pristine, folder, symlinks=True, dirs_exist_ok=True)
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(least_memory, "held_memory", lambda: None)
    monkeypatch.setattr(ladder, "climb", cut_off)

    code = main([*name.split(), *line]) if name != "bench" else bench.main(line)

    told = capsys.readouterr().err
    assert code in {0, 2, 3, 4, 69, 74, 78}, (line, told)
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "line",
    [
        ["run", "net.ecotta", "folder", "--state", "loop"],
        ["run", "net.ecotta", "folder", "--out", "loop"],
        ["run", "loop", "folder"],
        ["inspect", "net.ecotta", "--json", "loop"],
        ["doctor", "--quick", "--state", "loop"],
    ],
)
def test_links_in_a_circle_are_told(line, pristine, monkeypatch, capsys):
    monkeypatch.chdir(pristine)

    assert main(line) in {4, 69, 74}


@pytest.mark.parametrize("network", ["", ".", "/", "..", "a/..", "x/"])
def test_a_network_without_a_name_is_a_usage_error(network, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["prepare", network, "--data", "nowhere"]) in {2, 4}
