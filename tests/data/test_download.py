"""Fetching CIFAR-10-C, from servers on this machine that behave well and badly."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ecotta_rt.data import download
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.download import download_cifar10c
from ecotta_rt.data.stream import open_stream
from ecotta_rt.errors import InputFileError, TransferError, UsageError

FILES = (*CORRUPTIONS, "labels")
PART = "CIFAR-10-C.tar.part"


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def contents() -> dict[str, bytes]:
    """A whole CIFAR-10-C with one image a severity."""
    frames = npy(np.zeros((5, 32, 32, 3), np.uint8))
    return {f"CIFAR-10-C/{name}.npy": npy(np.arange(5)) if name == "labels" else frames for name in FILES}


def archive(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for member in members:
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def checksum(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves one file at every path, in the way its switches say, and remembers the Range of each request."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges = content, []
        self.knows_ranges, self.tells_length, self.stops_after, self.status = True, True, None, None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/CIFAR-10-C.tar?download=1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.knows_ranges else 0
        whole = len(server.content)
        if server.status or start >= whole:
            self.send_error(server.status or 416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if server.tells_length:
            self.send_header("Content-Length", str(whole - start))
        self.end_headers()
        self.wfile.write(server.content[start : server.stops_after])

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "CHUNK_BYTES", 16384)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(archive(contents()))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(folder, server, **options):
    return download_cifar10c(folder, url=server.url, **{"checksum": checksum(server.content), **options})


def test_the_set_is_fetched_checked_unpacked_and_can_be_played(tmp_path, server):
    seen = []

    target = fetch(tmp_path / "new", server, progress=lambda done, total: seen.append((done, total)))

    assert target == tmp_path / "new" / "CIFAR-10-C"
    assert sorted(path.name for path in target.iterdir()) == sorted(f"{name}.npy" for name in FILES)
    assert [path.name for path in target.parent.iterdir()] == ["CIFAR-10-C"]  # the archive is gone
    whole = len(server.content)
    assert seen[-1] == (whole, whole)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) > 3
    assert open_stream(target).frames_per_corruption == 1


def test_what_is_there_is_not_fetched_again(tmp_path, server):
    fetch(tmp_path, server)

    fetch(tmp_path, server)

    assert len(server.ranges) == 1


def test_a_transfer_that_stops_goes_on_where_it_stopped(tmp_path, server):
    server.stops_after = 50_000
    with pytest.raises(TransferError, match="50000 .*call again to go on"):
        fetch(tmp_path, server)
    assert (tmp_path / PART).stat().st_size == 50_000
    server.stops_after = None
    seen = []

    fetch(tmp_path, server, progress=lambda done, total: seen.append((done, total)))

    assert server.ranges == [None, "bytes=50000-"]
    assert seen[0][0] > 50_000
    assert seen[-1] == (len(server.content), len(server.content))


def test_a_server_without_ranges_sends_the_whole_again(tmp_path, server):
    (tmp_path / PART).write_bytes(b"x" * 1000)
    server.knows_ranges = False

    fetch(tmp_path, server)

    assert server.ranges == ["bytes=1000-"]


def test_a_part_that_is_already_whole_is_only_checked(tmp_path, server):
    (tmp_path / PART).write_bytes(server.content)

    assert fetch(tmp_path, server).is_dir()


def test_an_archive_that_was_fetched_by_hand_is_used(tmp_path, server):
    (tmp_path / "CIFAR-10-C.tar").write_bytes(server.content)

    fetch(tmp_path, server)

    assert server.ranges == []


def test_an_archive_of_other_content_is_left_alone(tmp_path, server):
    (tmp_path / "CIFAR-10-C.tar").write_bytes(b"mine")

    with pytest.raises(TransferError, match=r"CIFAR-10-C\.tar: checksum sha256:.* move it away"):
        fetch(tmp_path, server)

    assert (tmp_path / "CIFAR-10-C.tar").read_bytes() == b"mine"


def test_a_server_that_does_not_tell_the_length_is_believed_by_checksum_alone(tmp_path, server):
    server.tells_length = False
    seen = []

    fetch(tmp_path, server, progress=lambda done, total: seen.append(total))

    assert set(seen) == {None}


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_wrong_checksum_deletes_the_file_and_says_both(tmp_path, server, algorithm):
    wrong = f"{algorithm}:{'0' * (32 if algorithm == 'md5' else 64)}"
    right = f"{algorithm}:{hashlib.new(algorithm, server.content).hexdigest()}"

    with pytest.raises(TransferError, match=f"checksum {right}, expected {wrong}; the file is deleted"):
        fetch(tmp_path, server, checksum=wrong)

    assert list(tmp_path.iterdir()) == []


def test_a_part_of_something_else_is_noticed_and_the_next_call_starts_anew(tmp_path, server):
    (tmp_path / PART).write_bytes(b"x" * 1000)
    with pytest.raises(TransferError, match="checksum"):
        fetch(tmp_path, server)

    assert fetch(tmp_path, server).is_dir()


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_of_the_server_is_told(tmp_path, server, status):
    server.status = status

    with pytest.raises(TransferError, match=f"the server answered {status}"):
        fetch(tmp_path, server)


def test_a_server_that_is_not_there_is_told(tmp_path, server):
    url = server.url.replace(f":{server.server_address[1]}", ":1")

    with pytest.raises(TransferError, match=r"127\.0\.0\.1:1/.*0 bytes are kept"):
        download_cifar10c(tmp_path, url=url)


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_server_that_sends_too_much_is_stopped(tmp_path, server, monkeypatch, tells_length):
    monkeypatch.setattr(download, "MOST_BYTES", 100_000)
    server.tells_length = tells_length

    with pytest.raises(TransferError, match="more than the 100000"):
        fetch(tmp_path, server)


def test_a_disk_without_room_is_noticed_before_it_is_full(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))

    with pytest.raises(TransferError, match="bytes are needed for a while, and 1000 are free"):
        fetch(tmp_path, server)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "file:///etc/passwd"}, "must begin with http"),
        ({"checksum": "md5:short"}, "expected md5: and 32"),
        ({"checksum": "sha1:" + "0" * 40}, "expected md5"),
        ({"checksum": "sha256:" + "g" * 64}, "hexadecimal"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        download_cifar10c(tmp_path, **options)


def test_an_incomplete_folder_in_the_way_is_not_touched(tmp_path, server):
    (tmp_path / "CIFAR-10-C").mkdir()
    (tmp_path / "CIFAR-10-C" / "fog.npy").write_bytes(b"mine")

    with pytest.raises(UsageError, match=r"is there but lacks brightness\.npy, .* move it away"):
        fetch(tmp_path, server)

    assert (tmp_path / "CIFAR-10-C" / "fog.npy").read_bytes() == b"mine"


def test_other_plain_files_of_the_archive_are_passed_over(tmp_path, server):
    extras = {"CIFAR-10-C/speckle_noise.npy": b"x", "CIFAR-10-C/deep/fog.npy": b"x", "README": b"x"}
    server.content = archive({**extras, **contents()}, member("CIFAR-10-C", tarfile.DIRTYPE))

    target = fetch(tmp_path, server)

    assert {path.name for path in target.iterdir()} == {f"{name}.npy" for name in FILES}


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (archive(contents() | {"../fog.npy": b"x"}), "leads outside"),
        (archive(contents() | {"/tmp/fog.npy": b"x"}), "leads outside"),
        (archive(contents(), member("CIFAR-10-C/fog.npy", tarfile.SYMTYPE, "/etc/passwd")), "a link or device"),
        (archive(contents(), member("CIFAR-10-C/fog.npy", tarfile.LNKTYPE, "../secret")), "a link or device"),
        (archive(contents(), member("CIFAR-10-C/fog.npy", tarfile.FIFOTYPE)), "a link or device"),
        (archive({"fog.npy": b"x"} | contents()), r"'CIFAR-10-C/fog\.npy' comes twice"),
        (archive(dict(list(contents().items())[1:])), r"lacks gaussian_noise\.npy"),
        (archive(contents() | {"CIFAR-10-C/snow.npy": b"not npy"}), r"snow\.npy: not a \.npy file"),
        (b"this is no tar archive" * 100, "not a whole tar archive"),
    ],
)
def test_a_hostile_archive_leaves_nothing_but_itself(tmp_path, server, hostile, message):
    server.content = hostile
    folder = tmp_path / "data"

    with pytest.raises(InputFileError, match=message):
        fetch(folder, server)

    assert [path.name for path in folder.iterdir()] == ["CIFAR-10-C.tar"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_member_that_is_too_large_is_not_written(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "MOST_MEMBER_BYTES", 10_000)

    with pytest.raises(InputFileError, match="bytes, more than 10000"):
        fetch(tmp_path, server)
