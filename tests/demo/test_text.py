import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from ecotta_rt.demo.ladder import WAYS, Outcome
from ecotta_rt.demo.picture import draw
from ecotta_rt.demo.shipped import Stream
from ecotta_rt.demo.text import bars, closing, facts, heading, mean_row, row

RIGHT, WRONG = False, True


@pytest.fixture
def stream():
    labels = np.zeros((2, 2), np.int64)
    nothing = (np.zeros(0, np.float32),) * 2
    return Stream(("fog", "snow"), np.zeros((2, 2, 8, 8, 3), np.uint8), labels, 0, nothing)


@pytest.fixture
def outcome():
    wrong = {
        "as it came": [[WRONG, WRONG], [RIGHT, WRONG]],
        "warmed up": [[WRONG, RIGHT], [WRONG, RIGHT]],
        "statistics": [[RIGHT, RIGHT], [WRONG, RIGHT]],
        "learning": [[RIGHT, RIGHT], [WRONG, RIGHT]],
    }
    times = dict(zip(WAYS, (1.0, 2.0, 3.0, 8.0), strict=True))
    return Outcome({way: np.array(rows) for way, rows in wrong.items()}, times, 3, 90 * 2**20, "wrn-40-2")


def test_a_row_that_is_under_way_leaves_the_ways_to_come_empty():
    text = row("fog", {"as it came": np.array([WRONG, RIGHT]), "warmed up": np.zeros(0, np.bool_)})

    assert text.split() == ["fog", "50.0"]
    assert len(text) == len(heading())


def test_the_last_row_is_over_all_frames(outcome):
    assert mean_row(outcome).split() == ["all", "75.0", "50.0", "25.0", "25.0"]


def test_the_end_counts_what_each_rung_put_right_and_spoiled(stream, outcome):
    text = closing(stream, outcome)

    assert "4 frames the network got 3 wrong" in text
    assert "warm-up, done before it was shipped, put 2 right and spoiled 1" in text
    assert "statistics that follow the stream put 1 right and spoiled 0" in text
    assert "learning, from 3 frames that it was certain enough of, changed no answer's being right or wrong" in text
    assert "90 MiB at most for the process, 3.0 ms a frame to answer and 8.0 to answer and learn" in text


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "█"), ("ascii", "#"), (None, "#"), ("latin-1", "#")])
def test_bars_use_what_the_terminal_can_show(outcome, encoding, mark):
    text = bars(outcome, encoding)

    assert [line.count(mark) for line in text.splitlines()] == [40, 27, 13, 13]
    text.encode(encoding or "ascii")


def test_a_stream_without_mistakes_has_bars_of_no_length(outcome):
    none = {way: np.zeros_like(wrong) for way, wrong in outcome.wrong.items()}

    assert "#" not in bars(Outcome(none, outcome.ms_per_frame, 0, None, "net"), "ascii")


def test_the_json_has_every_figure_of_the_text(stream, outcome):
    found = facts(stream, outcome)

    assert found["error_percent"] == {"as it came": 75.0, "warmed up": 50.0, "statistics": 25.0, "learning": 25.0}
    assert found["errors"]["fog"]["as it came"] == 100.0
    assert found["process_peak_bytes"] == 90 * 2**20


def test_the_picture_is_svg_with_a_bar_for_every_way_of_every_corruption(stream, outcome):
    root = ElementTree.fromstring(draw(stream, outcome))
    colours = [rect.get("fill") for rect in root.iter("{http://www.w3.org/2000/svg}rect")]
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]

    for colour in ("#999999", "#56b4e9", "#009e73", "#d55e00"):
        assert colours.count(colour) == 3 + 1  # fog, snow and all; and the legend
    assert {"fog", "snow", "all", *WAYS} <= set(texts)
