"""Draw docs/images/live-page.png: the live page of a daemon that really runs, on the shipped network and pictures.

    .venv/bin/python docs/draw_live_page.py [--seconds 90]

Two cameras speak HTTP (MJPEG) and show the shipped stream's pictures (Fashion-MNIST, MIT licence), twelve of a class in
a row, in one kind of weather and then in another. Needs Chromium, as the tests of the page do.
"""

import argparse
import itertools
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import numpy as np
from PIL import Image

from ecotta_rt.demo.shipped import read_stream, unpacked_bundle

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "docs" / "images" / "live-page.png"
PORT = 8651
RUN = 12
CAMERAS = {"shelf": (3, 6, 9), "wardrobe": (1, 4)}
EVERY_S = 0.25

CONFIG = """\
config_version = 1
[network]
bundle = "{folder}/net.ecotta"
memory_limit = "200MiB"
answer = "filtered"
[state]
folder = "{folder}/state"
every_s = 30
[http]
enabled = true
port = {port}
page = true
[signs]
every_s = 20
[[sink]]
kind = "json-lines"
file = "{folder}/answers.jsonl"
"""
CAMERA = """\
[[camera]]
name = "{name}"
source = "http://127.0.0.1:{port}/{name}"
top = 3
"""


def main() -> None:
    """Serve, wait, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0, help="before the picture is taken (90)")
    seconds = parser.parse_args().seconds
    with TemporaryDirectory() as name, unpacked_bundle() as bundle:
        folder = Path(name)
        (folder / "net.ecotta").write_bytes(Path(bundle).read_bytes())
        config = folder / "page.toml"
        with ThreadingHTTPServer(("127.0.0.1", 0), Cameras) as cameras:
            Thread(target=cameras.serve_forever, daemon=True).start()
            text = CONFIG.format(folder=folder, port=PORT)
            text += "".join(CAMERA.format(name=camera, port=cameras.server_port) for camera in CAMERAS)
            config.write_text(text)
            with served(config):
                time.sleep(seconds)
                draw(folder)
            cameras.shutdown()


class Cameras(BaseHTTPRequestHandler):
    """A camera by its name: a picture after the other, until nobody looks."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        with suppress(OSError):
            for content in pictures(CAMERAS[self.path.strip("/")]):
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
                self.wfile.write(head.encode() + content + b"\r\n")
                time.sleep(EVERY_S)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def pictures(corruptions: tuple[int, ...]) -> Iterator[bytes]:
    """JPEGs in runs of a class, one corruption after the other."""
    stream, rng = read_stream(), np.random.default_rng(0)
    for corruption in itertools.cycle(corruptions):
        for label in rng.permutation(10):
            for chosen in rng.choice(np.flatnonzero(stream.labels[corruption] == label), RUN):
                picture = Image.fromarray(stream.frames[corruption, chosen])
                content = BytesIO()
                picture.resize((320, 320), Image.Resampling.BICUBIC).save(content, "jpeg", quality=90)
                yield content.getvalue()


@contextmanager
def served(config: Path) -> Iterator[None]:
    """The daemon, until the end of the block."""
    command = [sys.executable, "-m", "ecotta_rt", "serve", str(config), "--trial", "off"]
    daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while daemon.poll() is None and not answers():
            time.sleep(0.2)
        yield
    finally:
        daemon.terminate()
        daemon.wait(20)


def answers() -> bool:
    """Whether the daemon has answered a frame."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def draw(folder: Path) -> None:
    """Take the picture."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from fixtures.chromium import Chromium

    OUT.parent.mkdir(exist_ok=True)
    with closing(Chromium(folder / "profile")) as browser:
        page = browser.open(f"http://127.0.0.1:{PORT}/", width=1040, height=1080)
        page.wait_for("!document.querySelector('#picture').hidden")
        page.wait_for("document.querySelectorAll('.plot .line').length >= 2")
        picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
        picture.quantize(128, dither=Image.Dither.NONE).save(OUT, optimize=True)
        print(OUT, OUT.stat().st_size, "bytes;", *page.complaints())


if __name__ == "__main__":
    main()
