from pathlib import Path

import pytest

from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.files import figure


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "plot.png.txt"])
def test_another_suffix_is_refused_before_any_work(name, tmp_path):
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        figure.check_figure(tmp_path / name)


def test_a_folder_that_is_not_there_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        figure.check_figure(tmp_path / "none" / "plot.png")


def test_a_missing_matplotlib_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(figure, "find_spec", lambda name: None)

    with pytest.raises(Unavailable, match=r"matplotlib.*\[bench\]"):
        figure.check_figure(Path("plot.png"))


def test_an_svg_holds_no_date(tmp_path):
    drawn = pytest.importorskip("matplotlib.figure").Figure()

    figure.save_figure(drawn, tmp_path / "one.svg")

    text = (tmp_path / "one.svg").read_text()
    assert "<svg" in text
    assert "date" not in text
