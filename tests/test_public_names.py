"""`__all__` is explicit everywhere and says what is there."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ecotta_rt

PACKAGE = Path(__file__).parent.parent / "ecotta_rt"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def defined_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """What a module defines at its top level: its functions and classes, and its other names."""
    things: set[str] = set()
    values: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            things.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            values |= {target.id for target in targets if isinstance(target, ast.Name)}
    return things, values


def declared_names(tree: ast.Module) -> list[str] | None:
    """The content of `__all__`, or None where there is none."""
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if target is not None and ast.unparse(target) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def faults_of(module: str) -> Iterator[str]:
    """What is wrong with the `__all__` of a module."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    declared = declared_names(tree)
    if declared is None:
        if tree.body or not module.endswith("__init__.py"):  # an empty package has no names
            yield f"{module} has no __all__"
        return
    if len(declared) != len(set(declared)):
        yield f"{module} names something twice in __all__"
    things, values = defined_names(tree)
    missing = {name for name in things if not name.startswith("_")} - set(declared)
    yield from (f"{module}: {name} is public, yet not in __all__" for name in sorted(missing))
    if not module.endswith("__init__.py"):  # those hand on names of others
        strange = set(declared) - things - values
        yield from (f"{module}: {name} is in __all__, yet not defined here" for name in sorted(strange))


def test_every_module_declares_exactly_its_public_names():
    assert len(MODULES) > 100
    assert [fault for module in MODULES for fault in faults_of(module)] == []


def test_the_check_of_declared_names_sees_every_kind_of_fault(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    sources = {
        "fine.py": "__all__ = ['a']\ndef a(): ...\ndef _b(): ...\n",
        "none.py": "a = 1\n",
        "twice.py": "__all__ = ['a', 'a']\na = 1\n",
        "public.py": "__all__ = []\nclass A: ...\n",
        "strange.py": "__all__ = ['a']\n",
        "__init__.py": "__all__ = ['a']\nfrom fine import a\n",
    }
    for name, source in sources.items():
        (tmp_path / name).write_text(source, encoding="utf-8")

    assert [fault for module in sources for fault in faults_of(module)] == [
        "none.py has no __all__",
        "twice.py names something twice in __all__",
        "public.py: A is public, yet not in __all__",
        "strange.py: a is in __all__, yet not defined here",
    ]


def test_every_public_name_of_the_package_can_be_fetched():
    pytest.importorskip("torch")  # for the profiler

    assert [name for name in ecotta_rt.__all__ if getattr(ecotta_rt, name, None) is None] == []


def test_the_error_tree_is_public_in_full():
    from ecotta_rt import errors

    kinds = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}

    assert kinds <= set(ecotta_rt.__all__)


def test_dir_lists_the_public_names_even_before_they_are_fetched():
    assert dir(ecotta_rt) == sorted(ecotta_rt.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Runtime2'"):
        ecotta_rt.Runtime2  # noqa: B018


def test_without_torch_the_profiler_names_the_extra():
    code = "import sys; sys.modules['torch'] = None; import ecotta_rt; ecotta_rt.ActivationProfiler"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert "Unavailable: torch is not installed; it comes with: pip install '.[prepare]' in a checkout" in done.stderr
