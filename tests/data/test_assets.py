"""Where the bench finds its images and networks."""

from pathlib import Path

import pytest

from ecotta_rt.data import image_sets
from ecotta_rt.errors import Unavailable


def test_a_checkout_is_found_without_being_told(monkeypatch):
    monkeypatch.delenv("ECOTTA_ASSETS", raising=False)

    assert image_sets.assets_folder() == Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_environment_comes_first(tmp_path, monkeypatch):
    (tmp_path / "networks").mkdir()
    monkeypatch.setenv("ECOTTA_ASSETS", str(tmp_path))

    assert image_sets.assets_folder() == tmp_path


def test_a_wrong_environment_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ECOTTA_ASSETS", str(tmp_path / "nowhere"))

    with pytest.raises(Unavailable, match=r"\$ECOTTA_ASSETS names .*nowhere"):
        image_sets.assets_folder()


def test_an_install_without_a_checkout_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("ECOTTA_ASSETS", raising=False)
    elsewhere = tmp_path / "site-packages" / "ecotta_rt" / "data" / "image_sets.py"
    monkeypatch.setattr(image_sets, "__file__", str(elsewhere))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Unavailable, match="no checkout around it.*clone the repository and run this in it"):
        image_sets.assets_folder()


def test_an_install_takes_the_checkout_that_it_is_run_in(tmp_path, monkeypatch):
    monkeypatch.delenv("ECOTTA_ASSETS", raising=False)
    elsewhere = tmp_path / "site-packages" / "ecotta_rt" / "data" / "image_sets.py"
    monkeypatch.setattr(image_sets, "__file__", str(elsewhere))
    (tmp_path / "benchmarks" / "networks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert image_sets.assets_folder() == tmp_path / "benchmarks"
