import sys

import pytest

from ecotta_rt.cli.main import main

TORCH_IS_IMPORTED_BY = (
    "torch",
    "ecotta_rt.method.attach",
    "ecotta_rt.prepare.pipeline",
    "ecotta_rt.prepare.open_network",
)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prepare", "resnet-20", "--checkpoint", "none.pt"], 4, "none.pt: No such file or directory"),
        (["prepare", "none.safetensors"], 4, "none.safetensors: No such file or directory"),
        (["prepare", "none.py:build"], 2, "no such file: none.py"),
        (["prepare", "resnet-20", "--checkpoint", "."], 4, ".: it is a folder, not a regular file"),
        (["prepare", "resnet-20", "--data", "nowhere"], 2, "data 'nowhere': no such folder"),
        (["prepare", "resnet-20", "--data", "nowhere", "--unlabelled"], 4, "nowhere: "),
        (["prepare", "resnet-20", "--classes", "none.txt"], 2, "--classes none.txt: 1 names"),
        (["profile", "none.safetensors", "--batch", "1"], 4, "none.safetensors: No such file or directory"),
        (["profile", "none.py:build", "--batch", "1"], 2, "no such file: none.py"),
        (["profile", "resnet-20", "--batch", "1", "--checkpoint", "none.pt"], 4, "none.pt: No such file"),
    ],
)
def test_a_file_that_is_not_there_is_said_before_torch_is_imported(
    arguments, code, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in TORCH_IS_IMPORTED_BY:
        monkeypatch.setitem(sys.modules, name, None)

    assert main(arguments) == code
    assert f"error: {message}" in capsys.readouterr().err
