"""What is installed: metadata, extras, constraints, and a wheel that carries the device profiles."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ecotta_rt.extras import EXTRAS, how_to_install
from ecotta_rt.machine.device import device_ids

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text):
    return [line for line in text.splitlines() if line]


def pins(file):
    return [line for line in lines((CHECKOUT / file).read_text(encoding="utf-8")) if "==" in line]


def project(requirement):
    """The project's name in a requirement, as indexes spell it."""
    return re.split(r"[ \[<>=!~]", requirement)[0].lower().replace("_", "-")


def test_every_package_folder_is_installed(setup_cfg):
    folders = {path.parent for path in (CHECKOUT / "ecotta_rt").rglob("*.py")}
    packages = {folder.relative_to(CHECKOUT).as_posix().replace("/", ".") for folder in folders}

    assert set(lines(setup_cfg["options"]["packages"])) == {*packages, "ecotta_rt.devices"}


def test_a_device_installs_four_packages_and_no_torch(setup_cfg):
    base = {project(line) for line in lines(setup_cfg["options"]["install_requires"])}

    assert base == {"numpy", "onnxruntime", "psutil", "safetensors"}


def test_advice_about_missing_packages_agrees_with_the_extras(setup_cfg):
    extras = setup_cfg["options.extras_require"]
    distribution = {"PIL": "pillow", "paho": "paho-mqtt"}

    assert "ecotta_rt[prepare]" in lines(extras["bench"])  # so that `ecotta-bench` may name it for whatever it lacks
    for package, extra in EXTRAS.items():
        assert distribution.get(package, package) in {project(line) for line in lines(extras[extra])}


def test_pages_say_the_same_of_extras_as_the_messages():
    install = (CHECKOUT / "docs/how-to/install.md").read_text(encoding="utf-8")
    pages = [CHECKOUT / page for page in ("docs/how-to/prepare.md", "docs/reference/commands.md")]

    for extra in EXTRAS.values():
        assert f"| `{how_to_install(extra).removesuffix(' in a checkout of ecotta_rt')}` |" in install
    for page in pages:  # `ecotta tune` corrupts
        assert how_to_install("bench") in page.read_text(encoding="utf-8").replace("`", "")


def test_no_message_or_page_names_a_package_that_no_index_has():
    sources = [*(CHECKOUT / "ecotta_rt").rglob("*.py"), *(CHECKOUT / "docs").rglob("*.md"), CHECKOUT / "README.md"]

    assert [path for path in sources if "ecotta_rt[" in path.read_text(encoding="utf-8")] == []


def test_every_direct_dependency_has_an_exact_version(setup_cfg):
    pinned = {project(line) for line in [*pins("constraints.txt"), *pins("constraints-fleet.txt")]}
    extras = [
        line for key in setup_cfg["options.extras_require"] for line in lines(setup_cfg["options.extras_require"][key])
    ]
    direct = {project(line) for line in [*lines(setup_cfg["options"]["install_requires"]), *extras]}

    assert direct - {"ecotta-rt"} <= pinned


def test_flower_has_the_versions_of_everything_else_but_for_what_it_forbids():
    ours, flowers = ({project(line): line for line in pins(f"constraints{kind}.txt")} for kind in ("", "-fleet"))

    differ = {name for name in ours.keys() & flowers.keys() if ours[name] != flowers[name]}
    assert differ == {"rich", "protobuf", "packaging"}
    assert "flwr" in flowers.keys() - ours.keys()


@pytest.mark.parametrize("command", ["ecotta", "ecotta-bench"])
def test_entry_points_lead_somewhere(setup_cfg, command):
    if command == "ecotta-bench":
        pytest.importorskip("torch")
    scripts = dict(line.split(" = ") for line in lines(setup_cfg["options.entry_points"]["console_scripts"]))
    module, function = scripts[command].split(":")

    assert callable(getattr(import_module(module), function))


def test_an_installed_wheel_carries_the_device_profiles(tmp_path):
    """Built from a copy, since setuptools leaves its traces where it builds."""
    pytest.importorskip("setuptools")
    source, site = tmp_path / "source", tmp_path / "site"
    for folder in ("ecotta_rt", "devices"):
        shutil.copytree(CHECKOUT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    install = [
        "install",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--no-compile",
        "--target",
        str(site),
        str(source),
    ]
    subprocess.run([sys.executable, "-m", "pip", "-q", *install], check=True, capture_output=True)

    code = "import ecotta_rt as e; print(e.__file__, *[e.load_device(i).id for i in e.device_ids()])"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    where, *ids = done.stdout.split()
    assert Path(where).is_relative_to(site)
    assert tuple(ids) == device_ids()
    assert not (site / "devices").exists()
    assert (site / "ecotta_rt" / "py.typed").is_file()
    assert not list((site / "ecotta_rt").rglob("*.safetensors"))
    assert {path.name for path in (site / "ecotta_rt" / "demo").iterdir()} >= {
        "network.ecotta.xz",
        "stream.npz",
        "LICENSE",
    }
