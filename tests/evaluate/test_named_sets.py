"""Published test sets are read as their authors lay them out, one row for a language of the run."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import pytest

from gshard_mt.errors import ConfigError, DataError
from gshard_mt.evaluate.test_sets import read_test_set


def write(folder: pathlib.Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["{tag}.devtest", "devtest.{tag}"])
@pytest.mark.parametrize("inner", ["", "devtest/"])
def test_flores_in_its_layouts(tmp_path, capsys, name, inner):
    texts = {"deu_Latn": "eins\nzwei\n", "eng_Latn": "one\ntwo\n", "fra_Latn": "un\ndeux\n"}
    write(tmp_path, {inner + name.format(tag=tag): text for tag, text in texts.items()})
    write(tmp_path, {"dev/deu_Latn.dev": "drei\n", "README.md": "", "devtest.x": "no language\n"})
    found = read_test_set([f"flores:devtest={tmp_path}"], ["de-en", "lb-en", "sv-en"])
    assert found.name == "testset-flores_devtest"
    assert found.pairs == {"de-en": [("eins", "one"), ("zwei", "two")]}
    terms, lacking = capsys.readouterr().err.splitlines()
    assert terms.startswith("testset     flores:devtest: CC BY-SA 4.0; cite NLLB Team 2022")
    assert lacking == "left out    lb-en, sv-en: not in flores:devtest"


def test_ntrex_is_read_towards_its_english_source_in_one_text_of_a_language(tmp_path, capsys):
    texts = {
        "src.eng": "one\n",
        "ref.eng-US": "won\n",
        "ref.deu": "eins\n",
        "ref.fra": "un\n",
        "ref.fra-CA": "une\n",
        "ref-2.spa": "otro\n",
        "ref.spa": "uno\n",
        "ref.srp-Cyrl": "један\n",
        "ref.srp-Latn": "jedan\n",
    }
    write(tmp_path, {f"NTREX-128/newstest2019-{name}.txt": text for name, text in texts.items()})
    run = ["de-en", "fr-en", "es-en", "sr-en", "sr_Latn-en"]
    for folder in (tmp_path, tmp_path / "NTREX-128"):
        assert read_test_set([f"ntrex={folder}"], run).pairs == {
            "de-en": [("eins", "one")],
            "fr-en": [("un", "one")],
            "es-en": [("uno", "one")],
            "sr-en": [("један", "one")],
            "sr_Latn-en": [("jedan", "one")],
        }
    assert "left out    fra-CA: another text is read\n" in capsys.readouterr().err


def test_wmt24_is_read_towards_english_without_the_sources_that_its_authors_leave_out(tmp_path):
    row = {"lp": "en-fr_FR", "source": "one\nline", "target": "une\tligne", "is_bad_source": False}
    rows = [{**row, "source": "canary", "is_bad_source": True}, row]
    lines = "".join(json.dumps(each) + "\n" for each in rows)
    for tag in ("fr_CA", "fr_FR", "pt_BR"):
        write(tmp_path, {f"en-{tag}.jsonl": lines.replace("ligne", tag)})
    assert read_test_set([f"wmt24++={tmp_path}"], ["fr-en", "pt-en"]).pairs == {
        "fr-en": [("une fr_FR", "one line")],
        "pt-en": [("une pt_BR", "one line")],
    }
    write(tmp_path, {"en-fr_FR.jsonl": '{"source": "x"}\n'})
    with pytest.raises(DataError, match=r'en-fr_FR.jsonl:1: found no texts "source" and "target"'):
        read_test_set([f"wmt24++={tmp_path}"], ["fr-en"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("flores:devtest", "is not downloaded; get it from https://github.com/openlanguagedata"),
        ("flores={}", "found 'flores', accepted: flores:dev or flores:devtest"),
        ("ntrex:test={}", "found 'ntrex:test', accepted: ntrex"),
        (
            "ntrex={}",
            "found 0 texts and none in eng; accepted: files like NTREX-128/news",
        ),
        ("ntrex={}/none", "found 0 texts"),
        (
            "flores:devtest={}",
            "found 1 texts and none in eng_Latn; accepted: files like devtest/d",
        ),
        ("flores:dev={}", "flores:dev has none of fr-en, lb-en"),
        ("wmt14={}", "accepted: wmt14; sacreBLEU keeps it in"),
        ("wmt1={}", "found 'wmt1=.*=FOLDER, or a set of sacreBLEU such as wmt14"),
    ],
)
def test_what_a_named_set_lacks_is_told(tmp_path, value, message):
    write(tmp_path, {"devtest/deu_Latn.devtest": "x\n"})
    write(tmp_path, {f"dev/{tag}_Latn.dev": "x\n" for tag in ("deu", "eng")})
    with pytest.raises((ConfigError, DataError), match=message):
        read_test_set([value.format(tmp_path)], ["fr-en", "lb-en"])


def test_files_of_different_length_are_refused(tmp_path):
    write(tmp_path, {"dev/deu_Latn.dev": "x\ny\n", "dev/eng_Latn.dev": "x\n"})
    with pytest.raises(DataError, match=r"deu_Latn.dev: 2 lines, but .*eng_Latn.dev has 1"):
        read_test_set([f"flores:dev={tmp_path}"], ["de-en"])


# sacreBLEU reads the variable SACREBLEU when it is imported.
_READ = """
import sys
from sacrebleu.dataset import DATASETS
from gshard_mt.errors import UserError
from gshard_mt.evaluate.test_sets import read_test_set

name, url, checksum, *pairs = sys.argv[1:]
DATASETS[name].data, DATASETS[name].md5 = [url], [checksum]
try:
    print(dict(read_test_set([name], pairs).pairs))
except UserError as error:
    print(error)
"""


def read_fetched(cache: pathlib.Path, *arguments: str) -> tuple[str, list[str]]:
    """Returns what is read, or the error, and the lines on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, *arguments],
        env={**os.environ, "SACREBLEU": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr.splitlines()


def test_a_set_of_sacrebleu_is_fetched_once_and_checked(tmp_path):
    archive = tmp_path / "test-filtered.tgz"
    with tarfile.open(archive, "w:gz") as file:
        for side, text in (("src.de", "eins &amp; zwei"), ("ref.en", "one &amp; two")):
            content = f'<doc docid="1" genre="news">\n<seg id="1">{text}</seg>\n</doc>\n'.encode()
            member = tarfile.TarInfo(f"test/newstest2014-deen-{side}.sgm")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    checksum = hashlib.md5(archive.read_bytes()).hexdigest()
    cache = tmp_path / "cache"
    given = ("wmt14", archive.as_uri(), checksum, "de-en", "lb-en")
    expected = "{'de-en': [('eins &amp; zwei', 'one &amp; two')]}"
    text, said = read_fetched(cache, *given)
    assert text == expected
    assert said[0].startswith("testset     wmt14: Official evaluation data. Cite @InProceedings{")
    assert said[1:] == ["left out    lb-en: not in wmt14"]
    archive.unlink()
    assert read_fetched(cache, *given)[0] == expected

    error, said = read_fetched(tmp_path / "other", *given)
    assert error.startswith("--testset: wmt14 can't be fetched (") and not said
    assert f"delete {tmp_path / 'other' / 'wmt14'} and try again, or copy this folder" in error


def test_a_set_with_another_checksum_is_refused_in_one_line(tmp_path):
    (tmp_path / "test.tgz").write_bytes(b"changed")
    given = ("wmt14", (tmp_path / "test.tgz").as_uri(), "0" * 32, "de-en")
    error, said = read_fetched(tmp_path / "cache", *given)
    assert "can't be fetched (Fatal: MD5 sum of downloaded file was incorrect" in error
    assert len(error.splitlines()) == 1 and not said


def test_a_set_in_a_bucket_is_read(bucket):
    write(bucket, {"devtest/deu_Latn.devtest": "eins\n", "devtest/eng_Latn.devtest": "one\n"})
    (bucket / "own.tsv").write_text("zwei\ttwo\n")
    found = read_test_set([f"flores:devtest={bucket}"], ["de-en"])
    assert found.pairs == {"de-en": [("eins", "one")]}
    own = read_test_set([f"de-en={bucket}/own.tsv"], ["de-en"])
    assert own.pairs == {"de-en": [("zwei", "two")]}
