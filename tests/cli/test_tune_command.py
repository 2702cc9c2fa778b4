"""`ecotta tune` on a tiny bundle and pictures in class folders."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ecotta_rt.bench.tuning import tuning
from ecotta_rt.bundle import read_bundle
from ecotta_rt.bundle.rewriting import rewrite_adaptation
from ecotta_rt.cli.main import main
from ecotta_rt.errors import InputFileError
from ecotta_rt.exporter.export import compile_graphs
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.options import AdaptationOptions
from ecotta_rt.prepare.recipe import following, with_class_tables
from ecotta_rt.runtime.engine import Runtime

CLASSES = ("ant", "bee", "cat", "dog", "elk")


@pytest.fixture(scope="module")
def prepared(tiny, tmp_path_factory):
    """A bundle with class tables and a key of places, as `ecotta prepare` makes it."""
    network, step = tiny.network(), tiny.options("running")
    state = to_adapt_state(initial_state(network), network.digest())
    state = with_class_tables(network, state, tiny.frames(60), np.arange(60) % 5)
    recipe = following(network, state, step)
    path = tmp_path_factory.mktemp("prepared") / "tiny.ecotta"
    options = ExportOptions(model="tiny", classes=CLASSES, batches=(1,), step=step)
    compiled = compile_graphs(network, recipe.state, path, options)
    compiled.write(path, recipe.state, recipe.adaptation, recipe.tables)
    return path


@pytest.fixture
def bundle(prepared, tmp_path):
    path = tmp_path / "net.ecotta"
    path.write_bytes(prepared.read_bytes())
    return path


@pytest.fixture
def pictures(tiny, tmp_path):
    """Of each class four, labelled by the network's own answers as far as the tests care: any will do."""
    for number, pixels in enumerate(tiny.frames(20)):
        folder = tmp_path / "pictures" / CLASSES[number % 5]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def tune(capsys, *words):
    code = main(["tune", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.fixture
def two_views_pay(monkeypatch):
    """Whatever is played, with two views all answers are right."""

    def play_better(bundle, options, *rest):
        answers = play(bundle, options, *rest)
        right = tuple(np.zeros_like(found) for found in answers.filtered)
        return replace(answers, filtered=right, unfiltered=right) if options.views == 2 else answers

    play = tuning.play
    monkeypatch.setattr(tuning, "play", play_better)


def test_it_measures_prints_and_writes_what_it_chose(bundle, pictures, tmp_path, capsys, two_views_pay, monkeypatch):
    monkeypatch.setattr(tuning, "LEAST_FRAMES", 40)
    before, json_file = read_bundle(bundle), tmp_path / "tuned.json"
    few = ["--frames", "20", "--corruptions", "fog", "contrast"]

    code, out, err = tune(capsys, bundle, "--data", pictures, *few, "--mirror", "--json", json_file)

    assert code == 0, err
    facts, after = json.loads(json_file.read_text()), read_bundle(bundle)
    tried = ["as it is", "statistics plain", "statistics held", "places 0", "answer unfiltered", "views 2"]
    assert [row["setting"] for row in facts["rows"]][:7] == [*tried, "learning on"]
    assert all(row["setting"] in out for row in facts["rows"])
    assert facts["written"] and f"{bundle}: written" in out
    assert dict(after.manifest.adaptation) == facts["chosen"] == vars(AdaptationOptions.of(facts["chosen"]))
    assert facts["chosen"]["learning"] in ("on", "off") and facts["chosen"]["views"] == 2
    assert "40 frames shuffled + 40 frames in runs; fog, contrast" in after.manifest.metadata["tuned"]
    for graph in before.manifest.graphs:
        assert after.graph(graph.name) == before.graph(graph.name)
    assert all(np.array_equal(array, after.weights()[name]) for name, array in before.weights().items())
    assert after.initial_state().to_bytes() == before.initial_state().to_bytes()
    assert Runtime.load(bundle).options == AdaptationOptions.of(facts["chosen"])


def test_how_sure_it_may_be_is_written_where_all_else_stays_and_not_again(bundle, pictures, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "LEAST_FRAMES", 40)
    monkeypatch.setattr(tuning, "_guesses", lambda *_: False)
    monkeypatch.setattr(tuning, "pays", lambda *_: False)
    few = ["--frames", "20", "--corruptions", "fog", "contrast", "--json"]

    first, second = (json.loads(tune(capsys, bundle, "--data", pictures, *few)[1]) for _ in range(2))

    assert first["written"] and first["chosen"] == first["present"] and not second["written"]
    assert Runtime.load(bundle).signs_recipe.temperature == pytest.approx(first["temperature"], abs=1e-3)


def test_too_few_frames_leave_the_bundle_alone_and_it_says_how_many_to_give(bundle, pictures, capsys, two_views_pay):
    content, there = bundle.read_bytes(), bundle.stat()

    code, out, err = tune(
        capsys, bundle, "--data", pictures, "--frames", "20", "--corruptions", "fog", "contrast", "--mirror"
    )

    assert code == 0
    assert "warning: 40 frames in an order are too few to change anything" in err and "give --frames 125 or more" in err
    assert "too few frames to tell: it stays as it is" in out and f"{bundle}: nothing written" in out
    assert "the network is hardly better than guessing" in err  # labels are not those that it has learned
    assert bundle.read_bytes() == content
    assert (bundle.stat().st_ino, bundle.stat().st_mtime_ns) == (there.st_ino, there.st_mtime_ns)


def test_a_dry_run_writes_nothing_and_is_the_same_twice(bundle, pictures, capsys):
    content, few = bundle.read_bytes(), ["--frames", "20", "--corruptions", "fog", "--dry-run"]

    first, second = (json.loads(tune(capsys, bundle, "--data", pictures, *few, "--json")[1]) for _ in range(2))

    assert bundle.read_bytes() == content and not first["written"]
    assert [row["error"] for row in first["rows"]] == [row["error"] for row in second["rows"]]


def test_without_scipy_it_says_what_to_install_before_any_work(bundle, pictures):
    code = """
import sys
sys.modules["scipy"] = None
from ecotta_rt.cli.main import main
sys.exit(main(["tune", *sys.argv[1:]]))
"""
    words = map(str, (bundle, "--data", pictures))

    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == (
        "ecotta: error: corrupting frames needs scipy and Pillow, and scipy is missing; "
        "pip install '.[bench]' in a checkout of ecotta_rt\n"
    )


def test_without_changes_rewriting_gives_the_same_bytes(bundle):
    content = bundle.read_bytes()

    rewrite_adaptation(read_bundle(bundle), read_bundle(bundle).manifest.adaptation)

    assert bundle.read_bytes() == content


def test_a_bundle_that_was_replaced_meanwhile_is_left_alone(bundle, prepared):
    opened = read_bundle(bundle)
    bundle.unlink()
    bundle.write_bytes(prepared.read_bytes())

    with pytest.raises(InputFileError, match="was replaced while it was open"):
        rewrite_adaptation(opened, {})
    assert bundle.read_bytes() == prepared.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames", "5"], "--frames 5: too few"),
        (["--corruptions", "fogg"], "did you mean fog"),
        (["--corruptions", "fog", "fog"], "name each once"),
        (["--severity", "6"], "--severity 6"),
        (["--seed", "-1"], "--seed -1"),
        (["--classes", "ant,bee"], "does not name the folder 'cat'"),
    ],
)
def test_mistakes_are_told_before_any_work(bundle, pictures, words, said, capsys):
    code, _, err = tune(capsys, bundle, "--data", pictures, *words)

    assert code == 2
    assert said in err


def test_pictures_without_labels_or_of_other_classes_are_refused(bundle, pictures, capsys):
    code, _, err = tune(capsys, bundle, "--data", pictures / "ant")
    assert code == 2 and "pictures without labels" in err and "FOLDER/CLASS/PICTURE" in err

    (pictures / "ant").rename(pictures / "fox")
    code, _, err = tune(capsys, bundle, "--data", pictures)
    assert code == 2 and "other classes (5: bee, cat, dog, elk, ...)" in err and "--classes FOLDER=NAME" in err
    renamed = "fox=ant,bee,cat,dog,elk"
    code, _, err = tune(
        capsys, bundle, "--data", pictures, "--classes", renamed, "--frames", "20", "--corruptions", "fog", "--dry-run"
    )
    assert code == 0, err


def test_a_bundle_of_an_older_format_has_to_be_prepared_anew(checkout, pictures, capsys):
    old = checkout / "tests" / "hostile" / "fourth-version.ecotta"

    code, _, err = tune(capsys, old, "--data", pictures)

    assert code == 2
    assert "older format" in err and "prepare it anew" in err
