"""The digest that tells bundles of different code apart."""

import shutil

from ecotta_rt.exporter import code_digest as module


def test_it_is_the_same_in_every_place_and_another_after_every_change(tmp_path, monkeypatch):
    here = module.code_digest()
    for package in ("method", "exporter", "prepare", "bundle", "plan", "session", "files", "runtime"):
        shutil.copytree(module._PACKAGE / package, tmp_path / package)
    shutil.copy(module._PACKAGE / "options.py", tmp_path)
    monkeypatch.setattr(module, "_PACKAGE", tmp_path)
    options = tmp_path / "options.py"

    assert module.code_digest() == here
    options.write_bytes(options.read_bytes().replace(b"\n", b"\r\n"))
    assert module.code_digest() == here

    options.write_text(options.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    changed = module.code_digest()
    assert changed != here

    options.rename(options.with_name("choices.py"))
    assert module.code_digest() not in (here, changed)


def test_how_sessions_are_set_up_counts_since_a_bundles_figures_depend_on_it(tmp_path, monkeypatch):
    for package in ("method", "exporter", "prepare", "bundle", "plan", "session", "files", "runtime"):
        shutil.copytree(module._PACKAGE / package, tmp_path / package)
    shutil.copy(module._PACKAGE / "options.py", tmp_path)
    monkeypatch.setattr(module, "_PACKAGE", tmp_path)
    before = module.code_digest()

    for changed in ("plan/arena.py", "session/opening.py", "bundle/figures.py", "files/onnx_reader.py"):
        (tmp_path / changed).write_text("# changed\n", encoding="utf-8")
        before, last = module.code_digest(), before
        assert before != last
    (tmp_path / "runtime" / "loop.py").write_text("# changed\n", encoding="utf-8")
    assert module.code_digest() == before
