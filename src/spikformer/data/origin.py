"""Where data sets come from, and how to fetch them: downloads go on where they stopped."""

import hashlib
import http.client
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spikformer.errors import DataError

CHUNK = 1 << 20
TIMEOUT = 60
"""Seconds without a byte after which a server counts as gone."""
UNPACKING_FAILS = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What damaged archives raise."""


@dataclass(frozen=True)
class Archive:
    """A file that a data set, or a part of it, is published as.

    Args:
        name: Of the file.
        url: Where it lies. None: where only a browser gets at it.
        md5: Of its content.
    """

    name: str
    url: str | None
    md5: str


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from.

    Args:
        home: Page that describes it.
        terms: Under which it may be used.
        archives: What can be fetched without asking anybody.
        folder: Where they are unpacked, under the root.
    """

    home: str
    terms: str
    archives: tuple[Archive, ...] = ()
    folder: str = ""


Progress = Callable[[int, int | None], None]
"""Told how many bytes are there, and of how many, when that is known."""


def fetch(archive: Archive, folder: Path, progress: Progress) -> Path:
    """Download an archive into a folder, or what is missing of it, and see that it is whole.

    Raises:
        DataError: when the server cannot be reached or breaks off (run it again to go on), or the
            content is not what was published.
    """
    target = folder / archive.name
    part = target.with_name(f"{archive.name}.part")
    if target.is_file():
        if (found := md5_of(target)) != archive.md5:
            raise DataError(
                f"{target} has MD5 {found}, not {archive.md5}: remove it, to fetch it anew"
            )
        return target
    if archive.url is None:
        raise DataError(f"{archive.name} wants a browser: put it into {str(folder)!r}")
    folder.mkdir(parents=True, exist_ok=True)
    _download(archive.url, part, progress)
    if (found := md5_of(part)) != archive.md5:
        part.unlink()
        raise DataError(f"{archive.url} has MD5 {found}, not {archive.md5}: it is not kept")
    part.replace(target)
    return target


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a `.zip` or `.tar.gz`: its entries appear in the folder when all are there.

    What had their names before is removed.

    Raises:
        DataError: when it cannot be unpacked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as name:
        inside, before = Path(name) / "new", Path(name) / "old"
        before.mkdir()
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(inside)
            else:
                with tarfile.open(archive) as packed:
                    packed.extractall(inside, filter="data")
            for entry in inside.iterdir():
                there = folder / entry.name
                if there.exists() or there.is_symlink():
                    there.rename(before / entry.name)
                entry.rename(there)
        except UNPACKING_FAILS as error:
            raise DataError(f"{archive} cannot be unpacked: {error}") from error


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, part: Path, progress: Progress) -> None:
    there = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            goes_on = answer.status == http.client.PARTIAL_CONTENT
            there = there if goes_on else 0
            length = answer.headers.get("Content-Length")
            total = None if length is None else there + int(length)
            with part.open("ab" if goes_on else "wb") as file:
                while block := answer.read(CHUNK):
                    file.write(block)
                    there += len(block)
                    progress(there, total)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing
        raise DataError(f"{url} answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{url} broke off after {there} bytes ({error}): run it again to go on"
        ) from error
    if total is not None and there < total:
        raise DataError(f"{url} broke off after {there} of {total} bytes: run it again to go on")
