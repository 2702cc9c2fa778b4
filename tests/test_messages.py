import ast
import io
import os
import subprocess
import sys
from pathlib import Path

from ecotta_rt.messages import draw, tell

PACKAGE = Path(__file__).parent.parent / "ecotta_rt"
SAY = "from ecotta_rt.messages import draw, on_terminal, tell; tell('ecotta', 'hello'); draw('x'); on_terminal(); "


def test_a_message_is_one_line_behind_the_programs_name(capsys):
    tell("ecotta run", "going on")
    tell("", "a line without a name")

    assert capsys.readouterr().err == "ecotta run: going on\na line without a name\n"


def test_what_is_drawn_is_written_as_it_is(capsys):
    draw("\r\x1b[K12 frames")

    assert capsys.readouterr().err == "\r\x1b[K12 frames"


def test_a_message_that_nobody_can_hear_ends_nothing(monkeypatch, subtests):
    for error in [OSError(28, "No space left on device"), BrokenPipeError(), ValueError("closed")]:
        with subtests.test(error=error):

            def fail(*_, error=error):
                raise error

            monkeypatch.setattr(sys, "stderr", io.StringIO())
            monkeypatch.setattr(sys.stderr, "write", fail)

            tell("ecotta", "hello")
            draw("hello")


def test_a_closed_descriptor_does_not_send_messages_to_standard_output():
    done = subprocess.run(
        [sys.executable, "-c", SAY + "print('answer')"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.close(2),
    )

    assert (done.returncode, done.stdout) == (0, "answer\n")


def test_nobody_else_writes_to_standard_error():
    """One place, so that it is guarded once: whoever names `sys.stderr` does not go through it."""
    offenders = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name not in ("messages.py", "standard_streams.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.stderr"
    ]

    assert offenders == []
