"""Fetch CIFAR-10-C: resume where it stopped, check the whole, unpack the sixteen files we read and nothing else.

A transfer that stops leaves `CIFAR-10-C.tar.part`, and the next call goes on from there. The folder `CIFAR-10-C`
appears under its name only when it is complete.
"""

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ecotta_rt.data.cifar_c import CifarC
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.files.temporary import temporary_folder

__all__ = ["CHECKSUM", "URL", "Progress", "download_cifar10c"]

URL = "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar?download=1"
CHECKSUM = "md5:56bf5dcef84df0e2308c6dcbcbbd8499"  # as the record lists it
NAME = "CIFAR-10-C"

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes of the whole, or None where the server does not say."""

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60.0  # without a byte
MOST_BYTES = 4 * 2**30  # the archive has 2.9 GB; a server that sends without end must not fill the disk
MOST_MEMBER_BYTES = 50_000 * 32 * 32 * 3 + 4096  # 5 x 10,000 frames and a header
WANTED = frozenset(f"{name}.npy" for name in (*CORRUPTIONS, "labels"))


def download_cifar10c(
    folder: Path, *, url: str = URL, checksum: str | None = CHECKSUM, progress: Progress | None = None
) -> Path:
    """Fetch CIFAR-10-C, 2.9 GB, unless it is there.

    Args:
        folder: Where `CIFAR-10-C/` will be; made when missing.
        url: Of the archive, http or https.
        checksum: `md5:...` or `sha256:...` of the archive, in hexadecimal; None checks none.
        progress: Called after each piece.

    Returns:
        The folder `CIFAR-10-C`, complete: the 15 corruptions and the labels.

    Raises:
        UsageError: The URL or the checksum is of another kind, or an incomplete `CIFAR-10-C` is in the way.
        TransferError: The transfer stopped (call again: it resumes), or the checksum differs, or the disk is full.
        InputFileError: The archive holds what it should not, or lacks what it should hold.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"url {url!r}: it must begin with http:// or https://")
    _require_known(checksum)
    target = folder / NAME
    if target.exists():
        return _complete(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        archive = _fetched(folder, url, checksum, progress)
        _unpack(archive, target)
        archive.unlink()
    except TransferError:
        raise
    except OSError as error:
        raise TransferError(f"{folder}: {error}; what was fetched is kept, call again to go on") from error
    return target


def _complete(target: Path) -> Path:
    missing = sorted(name for name in WANTED if not (target / name).is_file())
    if missing:
        raise UsageError(f"{target} is there but lacks {', '.join(missing)}; move it away, then download anew")
    return target


def _require_known(checksum: str | None) -> None:
    algorithm, _, value = (checksum or "").partition(":")
    hexadecimal = set(value.lower()) <= set("0123456789abcdef")
    if checksum is not None and (len(value) != {"md5": 32, "sha256": 64}.get(algorithm) or not hexadecimal):
        raise UsageError(f"checksum {checksum!r}: expected md5: and 32 hexadecimal digits, or sha256: and 64")


def _fetched(folder: Path, url: str, checksum: str | None, progress: Progress | None) -> Path:
    """The whole archive, fetched unless it lies there, with the right checksum."""
    archive, part = folder / f"{NAME}.tar", folder / f"{NAME}.tar.part"
    for path in (archive, part):
        if path.exists() and not path.is_file():  # a pipe would keep us waiting
            raise TransferError(f"{path} is in the way and no regular file; move it away, then download anew")
    if archive.exists():
        fault = _wrong_checksum(archive, checksum)
        if fault:
            raise TransferError(f"{archive}: {fault}; move it away, then download anew")
        return archive
    _fetch(url, part, progress)
    fault = _wrong_checksum(part, checksum)
    if fault:
        part.unlink()  # going on from a wrong beginning can never come right
        raise TransferError(f"{url}: {fault}; the file is deleted, download it anew")
    os.replace(part, archive)
    return archive


def _wrong_checksum(path: Path, checksum: str | None) -> str | None:
    if checksum is None:
        return None
    algorithm = checksum.partition(":")[0]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    found = f"{algorithm}:{digest.hexdigest()}"
    return None if found == checksum.lower() else f"checksum {found}, expected {checksum.lower()}"


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """Bring `part` to its full length, going on from the length it has."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            if have and not _continues(response, have):
                have = 0  # a server without ranges sends the whole again
            total = _total(response, have)
            _check_room(part, have, total)
            have = _receive(response, part, have, total, progress)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # nothing is left to send; the checksum decides
        raise TransferError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, TransferError):
            raise
        kept = part.stat().st_size if part.exists() else 0
        raise TransferError(f"{url}: {error}; {kept} bytes are kept, call again to go on") from error
    if total is not None and have != total:
        raise TransferError(f"{url}: stopped at {have} of {total} bytes, which are kept; call again to go on")


def _continues(response: http.client.HTTPResponse, have: int) -> bool:
    ranges = response.headers.get("Content-Range", "")
    return response.status == http.HTTPStatus.PARTIAL_CONTENT and ranges.startswith(f"bytes {have}-")


def _total(response: http.client.HTTPResponse, have: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else None
    if total is not None and total > MOST_BYTES:
        raise TransferError(f"{response.url}: {total} bytes are announced, more than the {MOST_BYTES} allowed")
    return total


def _check_room(part: Path, have: int, total: int | None) -> None:
    """The archive is unpacked before it is deleted, so it needs its room twice."""
    free = shutil.disk_usage(part.parent).free
    if total is not None and free < 2 * total - have:
        raise TransferError(f"{part.parent}: {2 * total - have} bytes are needed for a while, and {free} are free")


def _receive(
    response: http.client.HTTPResponse, part: Path, have: int, total: int | None, progress: Progress | None
) -> int:
    with part.open("ab" if have else "wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            have += len(chunk)
            if have > MOST_BYTES:
                raise TransferError(f"{response.url}: sent more than the {MOST_BYTES} bytes allowed")
            if progress is not None:
                progress(have, total)
    return have


def _unpack(archive: Path, target: Path) -> None:
    """Unpack into a temporary folder beside the target, check, and move it into place."""
    with temporary_folder(target.parent, f".{NAME}-") as temporary:
        folder = temporary / NAME
        folder.mkdir()
        try:
            with tarfile.open(archive, "r:") as tar:
                for member in tar:
                    _unpack_member(tar, member, folder)
        except tarfile.TarError as error:
            raise InputFileError(f"{archive}: not a whole tar archive ({error}); delete it") from error
        missing = sorted(name for name in WANTED if not (folder / name).is_file())
        if missing:
            raise InputFileError(f"{archive}: lacks {', '.join(missing)}; it is not CIFAR-10-C, delete it")
        files = CifarC(folder)
        for corruption in CORRUPTIONS:
            files.read(corruption, severity=1)
        os.replace(folder, target)


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one of the wanted files; pass over other plain files and folders; refuse everything else.

    Only a fixed name of ours ever becomes a path on disk, so no member can be written outside the folder.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        kind = "a link or device" if not (member.isreg() or member.isdir()) else "a path that leads outside"
        raise InputFileError(f"{tar.name!s}: member {member.name!r} is {kind}; nothing of it is kept, delete the file")
    if not member.isreg() or path.name not in WANTED or len(path.parts) > 2:
        return
    destination = folder / path.name
    if destination.exists() or member.size > MOST_MEMBER_BYTES:
        fault = "comes twice" if destination.exists() else f"has {member.size} bytes, more than {MOST_MEMBER_BYTES}"
        raise InputFileError(f"{tar.name!s}: member {member.name!r} {fault}; it is not CIFAR-10-C, delete it")
    source = tar.extractfile(member)
    assert source is not None  # a regular file has content
    with source, destination.open("xb") as file:
        shutil.copyfileobj(source, file, CHUNK_BYTES)
