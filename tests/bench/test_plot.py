import pytest

from ecotta_rt.bench import plot

METHODS = ("source", "bn", "tent", "eata", "cotta", "ecotta-k4")


def test_a_png_is_drawn(row, report, tmp_path):
    plot.draw_plot(report(*map(row, METHODS)), tmp_path / "plot.png")

    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_an_svg_names_every_method_and_both_axes(row, report, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # text as text, so that it can be read back

    plot.draw_plot(report(*map(row, METHODS)), tmp_path / "plot.svg")

    text = (tmp_path / "plot.svg").read_text()
    for words in (*METHODS, "activations kept for the backward (MiB)", "error on the stream (% of frames)", "seed 7"):
        assert words in text


def test_one_method_alone_can_be_drawn(row, report, tmp_path):
    plot.draw_plot(report(row("source", activation_bytes=0)), tmp_path / "plot.png")

    assert (tmp_path / "plot.png").stat().st_size > 0
