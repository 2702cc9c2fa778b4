"""Where the bench finds its images and networks."""

from pathlib import Path

import pytest

from ecotta_rt.data import assets
from ecotta_rt.errors import Unavailable


def test_a_checkout_is_found_without_being_told(monkeypatch):
    monkeypatch.delenv("ECOTTA_ASSETS", raising=False)

    assert assets.assets_folder() == Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_environment_comes_first(tmp_path, monkeypatch):
    (tmp_path / "networks").mkdir()
    monkeypatch.setenv("ECOTTA_ASSETS", str(tmp_path))

    assert assets.assets_folder() == tmp_path


def test_a_wrong_environment_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ECOTTA_ASSETS", str(tmp_path / "nowhere"))

    with pytest.raises(Unavailable, match=r"\$ECOTTA_ASSETS names .*nowhere"):
        assets.assets_folder()


def test_an_install_without_a_checkout_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("ECOTTA_ASSETS", raising=False)
    monkeypatch.setattr(assets, "__file__", str(tmp_path / "site-packages" / "ecotta_rt" / "data" / "assets.py"))

    with pytest.raises(Unavailable, match="no checkout around it.*clone the repository and set ECOTTA_ASSETS"):
        assets.assets_folder()
