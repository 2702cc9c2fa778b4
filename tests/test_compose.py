"""docs/examples/compose.yaml: what it promises stands in it, and fits its configuration. Most need no Docker."""

import re
import shutil
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from ecotta_rt.daemon.configuration.config_reading import read


@pytest.fixture
def examples(checkout):
    return checkout / "docs" / "examples"


@pytest.fixture
def compose(examples):
    return (examples / "compose.yaml").read_text(encoding="utf-8")


@pytest.fixture
def config(examples, tmp_path):
    """Of the container, with the secret in a folder of the test's."""
    (tmp_path / "token").write_text("0123456789abcdef\n", encoding="utf-8")
    text = (examples / "container.toml").read_text(encoding="utf-8")
    (tmp_path / "container.toml").write_text(text.replace("/run/secrets", str(tmp_path)), encoding="utf-8")
    return read(tmp_path / "container.toml", {}).config


def test_the_container_may_do_no_more_than_it_needs(compose):
    lines = {line.strip() for line in compose.splitlines()}

    assert {"read_only: true", 'cap_drop: ["ALL"]', 'security_opt: ["no-new-privileges:true"]'} <= lines
    assert "privileged" not in compose.replace("no-new-privileges", "")
    limit, swap = (re.search(rf"{name}: (\S+)", compose)[1] for name in ("mem_limit", "memswap_limit"))
    assert limit == swap


def test_its_mounts_ports_and_secrets_are_those_of_the_configuration(compose, config):
    assert f'"./net.ecotta:{config.network.bundle}:ro"' in compose
    assert f'"state:{config.state_folder}"' in compose
    assert f'"{config.cameras[0].source}:{config.cameras[0].source}"' in compose
    assert f'"127.0.0.1:{config.http.port}:{config.http.port}"' in compose
    assert config.http.token == "0123456789abcdef"
    assert f'("127.0.0.1", {config.http.port})' in compose


def test_the_page_is_there_and_cameras_are_served_after_a_restart_of_the_machine(compose, config):
    """SIGTERM at its end is no failure, so `on-failure` would not start it again."""
    assert config.http.enabled and config.http.page
    assert "    restart: unless-stopped\n" in compose


@pytest.mark.parametrize(("status", "code"), [("200 OK", 0), ("503 Service Unavailable", 1), ("", 1)])
def test_the_health_check_says_what_healthz_says(compose, status, code):
    script = textwrap.dedent(re.search(r"- \|\n(.*?)      interval:", compose, re.DOTALL)[1])
    with socket.create_server(("127.0.0.1", 0)) as server:
        reply = threading.Thread(target=answer_once, args=(server, f"HTTP/1.0 {status}\r\n\r\n".encode()))
        reply.start()
        script = script.replace("8642", str(server.getsockname()[1]))
        done = subprocess.run([sys.executable, "-ISc", script], capture_output=True, text=True, check=False, timeout=30)
        reply.join()

    assert (done.returncode, done.stderr) == (code, "")


def answer_once(server, content):
    connection, _ = server.accept()
    with connection:
        assert connection.recv(1000).startswith(b"GET /healthz HTTP/1.0\r\nHost: ")
        connection.sendall(content)


def test_compose_understands_it(examples):
    commands = [["docker", "compose"], ["docker-compose"]]
    usable = [words for words in commands if shutil.which(words[0]) and runs([*words, "version"])]
    if not usable:
        pytest.skip("neither docker compose nor docker-compose is installed")

    assert runs([*usable[0], "--file", str(examples / "compose.yaml"), "config", "--quiet"])


def runs(words):
    return subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 0
