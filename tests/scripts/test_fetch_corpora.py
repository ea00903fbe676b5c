"""The script that fetches corpora goes on where it was cut short; recipes find its files."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import http.server
import importlib.util
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import threading

import pytest

from gshard_mt.data.corpora.readers import SCHEMES
from gshard_mt.data.corpora.recipe import load_recipe
from tests.data.corpora import samples

ROOT = pathlib.Path(__file__).parents[2]
PAIRS = samples.PAIRS


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "fetch_corpora.py"
    spec = importlib.util.spec_from_file_location("fetch_corpora", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(script, monkeypatch):
    """A server of made-up files; `site.files` maps paths to bytes, `site.asked` has the ranges."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = server.files.get(self.path)
            server.asked.append(self.headers.get("Range"))
            if content is None:
                self.send_error(404)
                return
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: server.limit])

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        files: dict[str, bytes] = {}
        asked: list[str | None] = []
        limit: int | None = None
        url = ""

    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked = {}, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(script, "OPUS", server.url)
    monkeypatch.setattr(script, "HUB", server.url)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _read_recipe(folder: pathlib.Path, name: str, language: str, split: str = "train"):
    recipe = load_recipe(ROOT / "data" / f"{name}.toml")
    (entry,) = [e for e in recipe.entries if e.languages == (language,) and e.split == split]
    moved = samples.entry(folder, entry.scheme, entry.location, (language,), split)
    return list(SCHEMES[entry.scheme].read(moved))


def _lines(side: int) -> bytes:
    return "".join(f"{pair[side]}\n" for pair in PAIRS).encode()


def test_opus_100_is_laid_for_its_recipe(script, site, tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for split in ("train", "dev", "test"):
            for side, tag in enumerate(("de", "en")):
                name = f"opus-100-corpus/v1.0/supervised/de-en/opus.de-en-{split}.{tag}"
                member = tarfile.TarInfo(name)
                member.size = len(_lines(side))
                archive.addfile(member, io.BytesIO(_lines(side)))
    site.files["/OPUS-100/v1.0/opus-100-corpus-de-en-v1.0.tar.gz"] = file.getvalue()
    for _ in range(2):  # what is there is not fetched again
        script.fetch_opus100("de", tmp_path / "opus100")
    assert len(site.asked) == 1
    for split in ("train", "dev", "test"):
        assert _read_recipe(tmp_path, "opus100", "de", split) == samples.GERMAN


def test_tatoeba_is_laid_for_its_recipe(script, site, tmp_path):
    content = {"Tatoeba.de-en.de": _lines(0), "Tatoeba.de-en.en": _lines(1), "LICENSE": b""}
    site.files["/OPUS-Tatoeba/v2023-04-12/moses/de-en.txt.zip"] = samples.archive(content)
    script.fetch_tatoeba("deu", tmp_path / "tatoeba")
    assert _read_recipe(tmp_path, "tatoeba", "de") == samples.GERMAN
    assert [path.name for path in (tmp_path / "tatoeba").iterdir()] == ["deu-en.train.tsv"]


def test_wmt_is_laid_for_its_recipe(script, site, tmp_path):
    content = samples.parquet()
    path = "de-en/train-00000-of-00001.parquet"
    found = {"path": path, "size": len(content)}
    found["lfs"] = {"oid": hashlib.sha256(content).hexdigest()}
    site.files["/api/datasets/wmt/wmt14/tree/main/de-en"] = json.dumps(
        [found, {"path": "de-en/README.md", "size": 3}]
    ).encode()
    site.files[f"/datasets/wmt/wmt14/resolve/main/{path}"] = content
    script.fetch_wmt30("de", tmp_path / "wmt30")
    assert _read_recipe(tmp_path, "wmt30", "de") == samples.GERMAN


def test_a_download_that_was_cut_short_goes_on(script, site, tmp_path):
    site.files["/a"] = b"0123456789" * 100
    site.limit = 300
    download = script.Download(f"{site.url}/a", tmp_path / "a")
    with pytest.raises((script.FetchError, OSError)):
        script.fetch(download)
    assert not (tmp_path / "a").exists()
    site.limit = None
    script.fetch(download)
    assert (tmp_path / "a").read_bytes() == site.files["/a"]
    assert site.asked[1] == "bytes=300-"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 99}, "received 10 of 99 bytes"),
        ({"sha256": "0" * 64}, "sha256 is .*, published is 000"),
    ],
)
def test_a_file_of_another_size_or_hash_is_refused(script, site, tmp_path, changes, said):
    site.files["/a"] = b"0123456789"
    with pytest.raises(script.FetchError, match=said):
        script.fetch(script.Download(f"{site.url}/a", tmp_path / "a", **changes))
    assert not (tmp_path / "a").exists()


def test_a_missing_language_is_said_at_the_end(script, site, tmp_path, monkeypatch, capsys):
    words = ["fetch", "tatoeba", "--languages", "de,fra", "--folder", str(tmp_path), "--yes"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        script.main()
    printed = capsys.readouterr()
    assert end.value.code == 2 and "error: not fetched: deu fra; " in printed.err
    assert "CC BY 2.0 FR" in printed.out and "deu: http://127.0.0.1" in printed.err


def test_nobody_at_the_terminal_is_told_how_to_say_yes(tmp_path):
    words = ["tatoeba", "--languages", "de", "--folder", tmp_path]
    command = [sys.executable, ROOT / "scripts" / "fetch_corpora.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and not any(tmp_path.iterdir())
    assert done.stderr.startswith("error: ") and "accepted: --yes" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("name", "number"), [("opus100", 99), ("tatoeba", 137), ("wmt30", 14)])
def test_the_languages_are_those_of_the_recipe(script, name, number):
    tags = script.languages_of(name)
    assert len(tags) == len(set(tags)) == number
    assert name in script.CORPORA
