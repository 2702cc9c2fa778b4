"""`ecotta inspect` on the small bundle of tests/hostile/."""

import json
import subprocess
import sys

import numpy as np
import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.cli.main import main
from ecotta_rt.state import AdaptState


@pytest.fixture
def small(checkout):
    return checkout / "tests" / "hostile" / "small.ecotta"


@pytest.fixture
def adapted(tmp_path):
    path = tmp_path / "adapted.safetensors"
    scale = np.ones(3, np.float32)
    state = AdaptState({"w": scale}, {"w": scale}, {"n.mean": scale}, "ab" * 32, {"note": "\x1b[2Jgone", "seed": "0"})
    state.save(path)
    return path


def inspect(capsys, *arguments):
    code = main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_people_see_what_is_in_a_bundle(small, capsys):
    code, out, _ = inspect(capsys, small)

    manifest = read_bundle(small).manifest
    assert code == 0
    for words in (
        "small.ecotta: a bundle of 0.01 MiB (9,358 bytes), all of it checked",
        "method         ecotta\n",
        "model          tiny, cut into 1 part\n",
        "classes        2: red, green\n",
        "frames         3 x 4 x 4, RGB, 8-bit values x 1/255",
        "pictures       stretch: stretched, the middle 87.5 % of each side, resized to 4 x 4",
        "normalisation  running",
        "stream         statistics plain, answer unfiltered, places 0, views 1, learning on",
        "options        lr 0.001, sgd_momentum 0.9, nesterov False, gradient exact",
        "weights        8 numbers in 2 arrays",
        "state          parameters: 4 numbers in 2 arrays, statistics: 4 numbers in 2 arrays",
        "made with      ecotta_rt 0.1.0, onnx 1.23.2, opset 18",
        "  origin  worked out by hand",
        manifest.network_digest,
        manifest.weights_sha256,
        manifest.state_sha256,
        *(graph.sha256 for graph in manifest.graphs),
    ):
        assert words in out
    rows = [line.split() for line in out.splitlines()]
    assert "step-2 step 2 18 0.00 0.00 0.00 masks bool, recompute none".split() in rows


def test_one_graph_in_detail(small, capsys):
    code, out, _ = inspect(capsys, small, "--graph", "step-2")

    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    for row in ("frames float32 2x3x4x4", "kept bool 2", "Identity 1", "Conv 1", "pick.weight 2x3x1x1"):
        assert row.split() in rows
    assert "operator set 18" in out


def test_a_graphs_figures_are_shown_where_the_bundle_has_them(tiny, small, capsys):
    path = tiny.bundle("running")
    sessions = {session.optimisation: session for session in read_bundle(path).manifest.graph("step-1").sessions}

    _, out, _ = inspect(capsys, path, "--graph", "step-1")
    _, without, _ = inspect(capsys, small.with_name("first-version.ecotta"), "--graph", "step-2")

    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    for name in ("all", "extended"):
        assert rows[name][1:3] == [f"{sessions[name].nodes:,}", f"{sessions[name].live_bytes / 2**20:.2f}"]
    assert "session" in rows
    assert "session" not in without


def test_bare_json_is_all_there_is_on_stdout(small, capsys):
    code, out, err = inspect(capsys, small, "--json")

    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert (facts["schema"], facts["kind"], facts["bytes"]) == (1, "bundle", 9358)
    assert facts["manifest"] == json.loads(read_bundle(small).manifest.to_json())


def test_a_graphs_json_comes_beside_the_text(small, capsys, tmp_path):
    code, out, _ = inspect(capsys, small, "--graph", "predict-2", "--json", tmp_path / "facts.json")

    graph = json.loads((tmp_path / "facts.json").read_text())["graph"]
    assert code == 0
    assert "predict-2" in out
    assert graph["operators"] == {"Conv": 1, "ReduceMean": 1, "Split": 1, "Mul": 1, "Add": 1}
    assert graph["weights"] == ["pick.bias", "pick.weight"]
    assert (graph["opset"], graph["kind"], graph["nodes"]) == (18, "predict", 5)


def test_a_state_is_told_from_a_bundle_and_orders_the_terminal_nothing(adapted, capsys):
    code, out, _ = inspect(capsys, adapted)

    assert code == 0
    assert "adapted.safetensors: an adapted state of" in out
    assert "ab" * 32 in out
    assert "parameters: 3 numbers in 1 arrays, statistics: 3 numbers in 1 arrays" in out
    assert "momentum  not zero" in out
    assert "\x1b" not in out
    assert r"\x1b[2Jgone" in out


def test_a_states_json_names_its_arrays(adapted, capsys):
    facts = json.loads(inspect(capsys, adapted, "--json")[1])

    assert facts["kind"] == "state"
    assert facts["arrays"] == {"parameters": {"w": [3]}, "momentum": {"w": [3]}, "statistics": {"n.mean": [3]}}
    assert facts["network_digest"] == "ab" * 32


def test_what_cannot_be_read_is_one_line_and_exit_code_4(capsys, tmp_path, subtests):
    for content, name, message in [
        (None, "none.ecotta", "cannot be read (No such file"),
        (b"", "empty.ecotta", "does not begin as a zip does"),
        (b"PK\3\4", "short.ecotta", "no zip end record"),
        (b"PK\3\4", "short.safetensors", "no zip end record"),
        (b"plain text", "text.txt", "not a safetensors file"),
    ]:
        with subtests.test(message):
            if content is not None:
                (tmp_path / name).write_bytes(content)

            code, out, err = inspect(capsys, tmp_path / name)

            assert (code, out) == (4, "")
            assert err.startswith(f"ecotta: error: {tmp_path / name}")
            assert message in err
            assert err.count("\n") == 1


def test_a_graph_that_was_changed_is_noticed_without_being_asked_for(small, capsys, tmp_path):
    content = small.read_bytes()
    at = content.index(b"ReduceMax")
    (tmp_path / "n.ecotta").write_bytes(content[:at] + b"ReduceMin" + content[at + 9 :])

    code, _, err = inspect(capsys, tmp_path / "n.ecotta")

    assert code == 4
    assert "graphs/step-2.onnx: its SHA-256 is" in err


def test_an_unknown_graph_is_a_usage_error(small, adapted, capsys):
    assert "did you mean step-2?" in inspect(capsys, small, "--graph", "step-3")[2]
    assert inspect(capsys, small, "--graph", "step-3")[0] == 2
    assert inspect(capsys, adapted, "--graph", "step-3")[0] == 2


def test_help_has_examples(capsys):
    code, out, _ = inspect(capsys, "--help")

    assert code == 0
    assert "examples:" in out
    assert "--graph step-1" in out


def test_it_runs_where_there_is_neither_torch_nor_onnx_nor_onnxruntime(small):
    code = f"""
import sys
sys.modules.update(dict.fromkeys(["torch", "onnx", "onnxruntime"]))
from ecotta_rt.cli.main import main
sys.exit(main(["inspect", {str(small)!r}, "--graph", "step-2"]))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
