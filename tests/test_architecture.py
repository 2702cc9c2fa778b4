"""Imports point down only, and heavy packages stay where HOMES has them. Read from the source, functions included."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "ecotta_rt"

# From the ground up: a room may import what stands before it, and itself. A newcomer has to be given its place here.
DEVICE = (
    *("_version", "errors", "extras", "messages", "options", "plugs"),
    *("files", "records", "events", "state", "machine", "bundle", "session"),
    *("plan", "adapt", "fleet", "sources", "runtime", "sinks", "run", "daemon", "demo"),
)
HOST = ("flower", "data", "method", "profile", "exporter", "prepare", "student", "merging", "bench")
ORDER = (*DEVICE, *HOST, "", "cli", "__main__")  # "" is ecotta_rt/__init__.py: where each public name is fetched from

# Where a package may be imported; anywhere for those not listed.
HOMES = {
    "torch": ("method/", "profile/", "exporter/", "prepare/", "student/", "merging/", "bench/peers/"),
    "onnx": ("exporter/", "prepare/"),
    "onnxscript": ("exporter/",),
    "scipy": ("data/", "fleet/clusters.py"),
    "PIL": ("data/", "sources/picture.py"),
    "matplotlib": ("files/figure.py", "bench/", "student/", "fleet/plot.py"),
    "rich": ("cli/",),
    "av": ("sources/pyav.py",),
    "picamera2": ("sources/picamera.py",),
    "paho": ("sinks/mqtt.py", "fleet/drop/mqtt.py"),
    "apprise": ("sinks/apprise_sink.py",),
    "flwr": ("flower/",),
}

# What a device installs; the light modules may use these and the standard library.
DEVICE_PACKAGES = {"numpy", "onnxruntime", "psutil", "safetensors"}

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imported_names(module: str, *, for_types_too: bool = True) -> Iterator[str]:
    """Dotted names of all that a module imports, wherever in the file; `from a import b` counts as `a.b`.

    Imports below `if TYPE_CHECKING` load nothing when the program runs; `for_types_too=False` leaves them out.
    """
    for node in walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8")), for_types_too):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def packages_of(module: str, *, for_types_too: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imported_names(module, for_types_too=for_types_too)}


def walk(node: ast.AST, for_types_too: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        only_for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if for_types_too or not only_for_types:
            yield from walk(child, for_types_too)


def place(module: str) -> str:
    """The first part of a module's path below the package; "" for the package's own __init__.py."""
    first = module.split("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


def place_of_import(name: str) -> str:
    parts = name.split(".")
    below = parts[1] if len(parts) > 1 else ""
    return below if (PACKAGE / below).is_dir() or (PACKAGE / f"{below}.py").is_file() else ""


def test_imports_point_down():
    upwards = [
        f"{module} imports ecotta_rt.{place_of_import(name)}"
        for module in MODULES
        for name in imported_names(module)
        if name.split(".")[0] == "ecotta_rt" and ORDER.index(place_of_import(name)) > ORDER.index(place(module))
    ]

    assert not upwards


def imported_modules(module: str) -> set[str]:
    """The modules of ours that a module imports, for types too; a package's `__init__.py` fetches names late."""
    names = {name.removeprefix("ecotta_rt.").replace(".", "/") for name in imported_names(module)}
    return {f"{name}.py" for path in names for name in (path, path.rpartition("/")[0])} & {*MODULES} - {module}


def test_no_module_imports_one_that_imports_it():
    """However long the circle: it is left when all that import nothing of the rest are taken away, again and again."""
    left = {module: imported_modules(module) for module in MODULES}
    while free := {module for module, imports in left.items() if not imports & left.keys()}:
        left = {module: imports for module, imports in left.items() if module not in free}

    assert not left


def test_heavy_packages_stay_where_they_belong():
    strangers = [
        f"{module} imports {package}"
        for module in MODULES
        for package in packages_of(module, for_types_too=False) & HOMES.keys()
        if not module.startswith(HOMES[package])
    ]

    assert not strangers


def test_the_rooms_of_a_device_need_only_what_it_installs():
    strangers = [
        f"{module} imports {package}"
        for module in MODULES
        if place(module) in DEVICE
        for package in packages_of(module) - {*sys.stdlib_module_names, *DEVICE_PACKAGES, "ecotta_rt"}
        if not module.startswith(HOMES.get(package, ()))
    ]

    assert not strangers


def test_the_rules_see_imports_wherever_they_are(tmp_path, monkeypatch):
    """The checks above are only as good as `imported_names`."""
    source = """\
if TYPE_CHECKING:
    from torch import Tensor
def late():
    import torch.nn
    from ecotta_rt.prepare import x
    importlib.import_module('onnx')
"""
    (tmp_path / "late.py").write_text(source, encoding="utf-8")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    running = {"torch.nn", "ecotta_rt.prepare.x", "onnx"}

    assert set(imported_names("late.py")) == {*running, "torch.Tensor"}
    assert set(imported_names("late.py", for_types_too=False)) == running


def modules_loaded_by(code: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter after running `code`."""
    script = f"{code}\nimport sys\nprint('loaded:', *{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_loaded_by("import ecotta_rt") & {*HOMES, *DEVICE_PACKAGES, "av", "hypothesis", "pytest"}


def test_the_devices_command_loads_nothing_heavy():
    loaded = modules_loaded_by("from ecotta_rt.cli.main import main; assert main(['devices']) == 0")

    assert not loaded & {*HOMES, *DEVICE_PACKAGES}
