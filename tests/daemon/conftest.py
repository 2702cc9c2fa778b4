import pytest

from ecotta_rt.daemon.configuration.config_reading import read_config


@pytest.fixture
def named_bundle(tmp_path):
    """Nothing of a bundle is read but that it is there."""
    path = tmp_path / "net.ecotta"
    path.write_bytes(b"")
    return path


@pytest.fixture
def read_camera(tmp_path, named_bundle):
    """Reads a configuration of one camera and what is added to it."""

    def read(added="", environ=None, *, network="", version="config_version = 1", camera='source = "/dev/video0"'):
        path = tmp_path / "door.toml"
        head = (
            f'{version}\n\n[network]\nbundle = "{named_bundle}"\n{network}\n[[camera]]\nname = "front-door"\n{camera}\n'
        )
        path.write_text(head + added, encoding="utf-8")
        return read_config(path, environ or {})

    return read
