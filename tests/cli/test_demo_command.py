import json
import os
import subprocess
import sys

from ecotta_rt.cli.main import main
from ecotta_rt.demo.ladder import WAYS

RUN = "import sys; from ecotta_rt.cli.main import main; sys.exit(main(['demo', *sys.argv[1:]]))"


def test_a_pipe_gets_plain_lines_a_row_for_each_corruption_and_a_picture_and_files_stand_beside(tmp_path, capsys):
    files = ["--json", str(tmp_path / "demo.json"), "--plot", str(tmp_path / "demo.svg")]

    assert main(["demo", "--frames", "1", *files]) == 0

    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\r" not in printed.out and "\x1b" not in printed.out
    rows = [line for line in printed.out.splitlines() if line.startswith("fog ")]
    assert len(rows) == 1 and len(rows[0].split()) == 1 + len(WAYS)
    assert "Of 15 frames the network got" in printed.out
    assert "MiB at most for the process" in printed.out
    assert "learning" in printed.out
    assert json.loads((tmp_path / "demo.json").read_text())["frames"] == 15
    assert (tmp_path / "demo.svg").read_text().startswith("<svg")


def test_bare_json_is_all_that_is_printed_also_from_another_folder_in_an_ascii_locale(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-W", "error", "-c", RUN, "--frames", "1", "--seed", "3", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["seed"] == 3
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_a_wrong_option_is_refused_before_a_frame_is_played(capsys, monkeypatch, tmp_path, subtests):
    for arguments, says in [
        (["--frames", "0"], "1 to 48"),
        (["--frames", "1000"], "1 to 48"),
        (["--seed", "-1"], "must not be negative"),
        (["--threads", "0"], "give 1 or more"),
        (["--plot", "demo.png"], ".svg"),
        (["--plot", "missing/demo.svg"], "make it first"),
        (["--json", "missing/demo.json"], "make it first"),
    ]:
        with subtests.test(arguments=arguments, says=says):
            monkeypatch.chdir(tmp_path)

            assert main(["demo", *arguments]) == 2

            printed = capsys.readouterr()
            assert says in printed.err
            assert printed.out == ""
