"""Fetches the corpora of data/*.toml that are not on a package index from their publishers.

    python scripts/fetch_corpora.py NAME [--languages de,fr] [--folder data] [--yes]

NAME is opus100, tatoeba or wmt30; TED needs no script (see data/ted.toml). The script prints what
it will fetch and under which licence, and asks for confirmation. Files go to FOLDER/NAME, where the
recipe expects them. Existing files are not fetched again, and interrupted downloads are resumed.
Sizes are checked, and SHA-256 if it is published.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tarfile
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, NoReturn

from gshard_mt.errors import UserError
from gshard_mt.languages import is_language, language_code
from gshard_mt.storage.bucket_path import BucketPath, open_path

DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
OPUS = "https://object.pouta.csc.fi"
HUB = "https://huggingface.co"

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_WMT_YEARS = {"de": 14, "hi": 14, "fr": 15, "ro": 16, "lv": 17, "et": 18, "tr": 18}  # else 19


class FetchError(UserError):
    """A file can't be fetched or is not the expected one; the message starts with its address."""


class Download(NamedTuple):
    """One file to fetch: its address, its path, and its size and hash if known."""

    url: str
    path: pathlib.Path
    size: int | None = None  # bytes; None: as the server reports
    sha256: str = ""


class Corpus(NamedTuple):
    """How to fetch a corpus: one language at a time, with `fetch(tag, folder)`."""

    about: str
    fetch: Callable[[str, pathlib.Path], None]


def fetch_opus100(tag: str, folder: pathlib.Path) -> None:
    """Fetches OPUS-100 of a language into `<tag>-en/<split>.<tag>` and `.en`."""
    done = folder / f"{tag}-en" / "train.en"
    if done.exists():
        return
    pair = _opus_pair(tag)
    url = f"{OPUS}/OPUS-100/v1.0/opus-100-corpus-{pair}-v1.0.tar.gz"
    with _fetched(url, folder) as archive, tarfile.open(archive) as members:
        names = {pathlib.PurePosixPath(name).name: name for name in members.getnames()}
        for split in ("dev", "test", "train"):  # a few languages have no dev and test
            for side in (tag, "en"):
                if name := names.get(f"opus.{pair}-{split}.{side}"):
                    _unpack(members.extractfile(name), folder / f"{tag}-en" / f"{split}.{side}")
    if not done.exists():
        raise FetchError(f"{url}: no opus.{pair}-train.en in it")


def fetch_tatoeba(tag: str, folder: pathlib.Path) -> None:
    """Fetches Tatoeba of a language into `<tag>-en.train.tsv`, source TAB English."""
    done = folder / f"{tag}-en.train.tsv"
    if done.exists():
        return
    code = language_code("tok" if tag == "toki" else tag)
    pair = _opus_pair(code)
    url = f"{OPUS}/OPUS-Tatoeba/v2023-04-12/moses/{pair}.txt.zip"
    part = done.with_name(f"{done.name}.part")
    with (
        _fetched(url, folder) as path,
        zipfile.ZipFile(path) as archive,
        archive.open(f"Tatoeba.{pair}.{code}") as source,
        archive.open(f"Tatoeba.{pair}.en") as english,
        open(part, "wb") as file,
    ):
        for one, other in zip(source, english, strict=True):
            columns = (b" ".join(line.split()) for line in (one, other))
            file.write(b"\t".join(columns) + b"\n")
    os.replace(part, done)


def fetch_wmt30(tag: str, folder: pathlib.Path) -> None:
    """Fetches the Parquet files of a language's year of WMT into `<tag>-en/`."""
    name = f"wmt/wmt{_WMT_YEARS.get(tag, 19)}"
    listing = f"{HUB}/api/datasets/{name}/tree/main/{tag}-en"
    with _open(listing) as answer:
        found = json.load(answer)
    for file in found:
        base = pathlib.PurePosixPath(file["path"]).name
        if re.fullmatch(r"(train|validation|test)-[\w-]+\.parquet", base):
            url = f"{HUB}/datasets/{name}/resolve/main/{file['path']}"
            path = folder / f"{tag}-en" / base
            fetch(Download(url, path, file["size"], file.get("lfs", {}).get("oid", "")))


CORPORA = {
    "opus100": Corpus(
        "OPUS-100 v1.0 from OPUS, some GB; each of its source corpora has its own licence",
        fetch_opus100,
    ),
    "tatoeba": Corpus(
        "Tatoeba v2023-04-12 from OPUS, some hundred MB; licence CC BY 2.0 FR", fetch_tatoeba
    ),
    "wmt30": Corpus(
        "WMT 2014-2019 in Parquet files from the hub of Hugging Face, tens of GB; for research, "
        "each of its source corpora has its own licence. Spanish comes by TFDS when it is prepared",
        fetch_wmt30,
    ),
}


def fetch(download: Download) -> None:
    """Fetches a file, resuming from its `.part`, and checks it. Raises FetchError."""
    if download.path.exists():
        return
    download.path.parent.mkdir(parents=True, exist_ok=True)
    part = download.path.with_name(f"{download.path.name}.part")
    start = part.stat().st_size if part.exists() else 0
    with _open(download.url, start) as answer:
        if answer.status != 206:  # the server sends the whole file
            start = 0
        length = answer.headers.get("Content-Length")
        size = download.size or (start + int(length) if length else None)
        with open(part, "ab" if start else "wb") as file:
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
                start += len(chunk)
                _show(download.url, start, size)
    _check(download, part, size)
    os.replace(part, download.path)


def languages_of(name: str) -> list[str]:
    """Returns the tags, as in file names, of the sources of a recipe that this script fetches."""
    tags = []
    source = re.compile(rf"\w+:{name}/(?P<tag>[^-]+)-en")
    for table in tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))["corpus"]:
        if match := source.match(table["source"]):
            tag = match["tag"]
            tags += table["language"] if tag == "{language}" else [tag]
    return list(dict.fromkeys(tags))


def find_tag(given: str, known: list[str]) -> str:
    """Returns the tag of `known` that means the same language (`deu` for `de`), else `given`."""
    if given in known or not is_language(given):
        return given
    code = language_code(given)
    return next((tag for tag in known if is_language(tag) and language_code(tag) == code), given)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=CORPORA)
    parser.add_argument("--languages", help="a list like de,fr; default: all of the recipe")
    parser.add_argument("--folder", type=open_path, default=DATA)
    parser.add_argument("--yes", action="store_true", help="don't ask")
    flags = parser.parse_args()
    if isinstance(flags.folder, BucketPath):
        fail(f"--folder: found {flags.folder}, accepted: a folder on a disk")
    corpus, folder = CORPORA[flags.name], flags.folder / flags.name
    known = languages_of(flags.name)
    tags = (
        [find_tag(tag, known) for tag in flags.languages.split(",")] if flags.languages else known
    )
    if unknown := [tag for tag in tags if tag not in known]:
        fail(f"--languages: found {unknown[0]}; accepted: {' '.join(known)}")
    print(f"{corpus.about}.\n{len(tags)} languages into {folder}: {' '.join(tags)}")
    if not (flags.yes or _is_wanted()):
        sys.exit("nothing fetched")
    failed = []
    for tag in tags:
        try:
            corpus.fetch(tag, folder)
            print(f"{tag}: done", file=sys.stderr)
        except _ERRORS as error:
            failed.append(tag)
            print(f"{tag}: {error}", file=sys.stderr)
    if failed:
        fail(f"not fetched: {' '.join(failed)}; run it again to resume, or leave them out")


_ERRORS = (FetchError, OSError, zipfile.BadZipFile, tarfile.TarError, KeyError, ValueError)


def fail(message: str) -> NoReturn:
    """Ends as a command does that can't go on: one line, exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _is_wanted() -> bool:
    try:
        return input("Fetch them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # no terminal
        print()
        fail("nobody answers on standard input; accepted: --yes to fetch without asking")


def _opus_pair(code: str) -> str:
    return "-".join(sorted((code, "en")))


@contextlib.contextmanager
def _fetched(url: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Fetches an archive and removes it after it has been unpacked."""
    path = folder / url.rsplit("/", 1)[1]
    fetch(Download(url, path))
    yield path
    path.unlink()


def _unpack(content: IO[bytes] | None, path: pathlib.Path) -> None:
    if content is None:
        raise FetchError(f"{path}: not a file in the archive")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with open(part, "wb") as file:
        shutil.copyfileobj(content, file)
    os.replace(part, path)


def _open(url: str, start: int = 0):
    headers = {"User-Agent": "gshard-mt"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        return urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the .part is complete, or too long: start again
            return _open(url)
        raise FetchError(f"{url}: {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise FetchError(f"{url}: {error.reason}; check the network") from None


def _check(download: Download, part: pathlib.Path, size: int | None) -> None:
    found = part.stat().st_size
    if size is not None and found != size:
        if found > size:
            part.unlink()
        raise FetchError(
            f"{download.url}: received {found} of {size} bytes; run it again to resume"
        )
    if download.sha256:
        with open(part, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != download.sha256:
            part.unlink()
            raise FetchError(f"{download.url}: sha256 is {sha256}, published is {download.sha256}")


def _show(url: str, num_bytes: int, size: int | None) -> None:
    if sys.stderr.isatty():
        total = f" of {size / 1e6:,.0f}" if size else ""
        name = url.rsplit("/", 1)[1]
        print(f"\r{name}: {num_bytes / 1e6:,.0f}{total} MB ", end="", file=sys.stderr)


if __name__ == "__main__":
    main()
