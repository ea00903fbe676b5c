"""The card of an export: YAML that the Hub reads, and a page that says what is known, for both."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import json
import pathlib
import re
import shutil

import pytest
import yaml

from gshard_mt.data.prepared import Prepared
from gshard_mt.errors import ConfigError, DataError
from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.scores import Score, signatures
from gshard_mt.evaluate.test_sets import Leak
from gshard_mt.export import ctranslate2_model
from gshard_mt.export.card import check_license, write_card
from gshard_mt.export.description import Export
from gshard_mt.export.evaluations import TABLE_VERSION
from gshard_mt.export.folder import export, write_safetensors
from gshard_mt.languages import base_language
from gshard_mt.run.directory import Run
from tests.export.made_run import make_run

WRITERS = {"safetensors": write_safetensors, "ctranslate2": ctranslate2_model.write}
MORE = {
    "numbers": "float32",
    "arrays": [],
    "has_map": False,
    "positions": 9,
    "source": "s",
    "target": "t",
}
SCORES = {
    "de-en": Score(40, 31.23456789, 29.0, 33.0, 55.5),
    "fr-en": Score(41, 0.0, 0.0, 0.1, 9.87654321),
}
# How the Hub finds these lines: REGEX_YAML_BLOCK of huggingface_hub 2.4.
YAML_BLOCK = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))")


@pytest.fixture(scope="module", params=WRITERS)
def form(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, config, prepared) -> pathlib.Path:
    """A run of a dense model whose data are in their place."""
    folder, data = tmp_path_factory.mktemp("dense"), dataclasses.replace(config)
    made = make_run(folder, data, prepared, {"num_experts": 0}, num_layers=4)
    path = made.workdir / "config.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record |= {"data_dir": str(prepared.directory), "data_fingerprint": prepared.fingerprint}
    path.write_text(json.dumps(record), encoding="utf-8")
    return made.workdir


@pytest.fixture(scope="module")
def exported(tmp_path_factory, workdir) -> Export:
    return export(workdir, tmp_path_factory.mktemp("exported"))


@pytest.fixture
def made(exported, tmp_path) -> Export:
    """An export of a run directory with nothing in it."""
    return exported._replace(workdir=tmp_path / "my run")


def evaluate(workdir: pathlib.Path, step: int, name: str = "test", leaks=None) -> dict:
    """Leaves an evaluation as gshard-eval does; returns the content of its table.json."""
    rows = tables.make_rows(SCORES, {"de-en": 300, "fr-en": 200}, leaks=leaks)
    folder = workdir / "eval" / str(step) / name
    tables.write(tables.ScoreTable(step, name, 10, 10, signatures(), rows), folder)
    return json.loads((folder / "table.json").read_text(encoding="utf-8"))


def read(folder: pathlib.Path) -> tuple[dict, str]:
    """Returns what the Hub finds in front of a card, and the page below it."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    match = YAML_BLOCK.search(text)
    assert match
    return yaml.safe_load(match[2]), text[match.end() :]


def write(made: Export, form: str, folder: pathlib.Path, license: str = "") -> tuple[dict, str]:
    folder.mkdir(parents=True, exist_ok=True)
    write_card(folder, made, form, license, **MORE)
    return read(folder)


def section(page: str, title: str) -> str:
    return re.split(r"^## ", page.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a Markdown table, split where no backslash stands before the border."""
    lines = [line for line in text.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_a_card_has_what_the_hub_reads_and_the_scores_of_the_evaluation(workdir, tmp_path, form):
    own = tmp_path / "my-model"
    shutil.copytree(workdir, own)
    table = evaluate(own, 7)
    evaluate(own, 3, "dev")  # of another step
    export(own, tmp_path / "out", write=functools.partial(WRITERS[form], license="cc-by-4.0"))
    head, page = read(tmp_path / "out")
    assert head.pop("model-index") == [
        {
            "name": "my-model",
            "results": [
                {
                    "task": {"type": "translation", "name": "Translation"},
                    "dataset": {
                        "type": "test",
                        "name": f"test, {row['language']} to English",
                        "config": row["pair"],
                    },
                    "metrics": [
                        {
                            "type": metric,
                            "value": row[metric],
                            "name": name,
                            "args": {"signature": table["signatures"][metric]},
                            "verified": False,
                        }
                        for metric, name in (("bleu", "BLEU"), ("chrf", "chrF"))
                    ],
                }
                for row in table["rows"]
            ],
        }
    ]
    assert head == {
        "language": ["de", "fr", "en"],
        "license": "cc-by-4.0",
        "library_name": {"safetensors": "gshard-mt", "ctranslate2": "ctranslate2"}[form],
        "pipeline_tag": "translation",
        "tags": ["translation", form],
    }
    assert page.startswith("\n# my-model: translation into English\n") and "has to add" not in page
    assert ["de", "German", "300"] in rows(page)
    assert ["test", "de-en", "German", "40", "31.2", "29.0-33.0", "55.5"] in rows(page)
    assert all(signature in page.replace("\\", "") for signature in signatures().values())
    assert str(tmp_path) not in page


def test_the_table_of_corpora_is_that_of_the_prepared_data(made, prepared: Prepared, form):
    found = rows(section(write(made, form, made.workdir)[1], "Training data"))
    assert found[0] == ["corpus", "languages", "licence", "training pairs"]
    sources = [each for each in prepared.manifest["recipe"]["corpora"] if each["split"] == "train"]
    expected = {}
    for pair, corpora in prepared.corpora.items():
        for corpus in corpora:
            licenses = {each["license"] for each in sources if each["name"] == corpus.name}
            own = expected.setdefault(corpus.name, [set(), licenses, 0])
            own[0].add(pair.removesuffix("-en"))
            own[2] += corpus.pairs
    assert expected and {row[0]: row[1:] for row in found[2:]} == {
        name: [", ".join(sorted(codes)), "; ".join(licenses), f"{number:,}"]
        for name, (codes, licenses, number) in expected.items()
    }


@pytest.mark.parametrize("case", ["gone", "others", "unfinished"])
def test_a_card_says_that_the_data_are_not_there(made, prepared, tmp_path, form, case):
    run = made.run
    if case == "others":
        run = run._replace(data_fingerprint="of others")
    else:
        run = run._replace(data_dir=tmp_path / case)
    if case == "unfinished":
        (tmp_path / case).mkdir()
        (tmp_path / case / "manifest.json").write_text("{")
    page = write(made._replace(run=run), form, tmp_path / "out")[1]
    assert "not there any more" in page and "licence |" not in page


def test_a_card_without_license_and_evaluation_says_what_is_missing(made, tmp_path, form):
    head, page = write(made, form, tmp_path / "out")
    assert not {"license", "model-index", "datasets"} & set(head)
    assert page.count("has to add `license`") == 1
    assert "gshard-eval --workdir RUN --step 7" in section(page, "Evaluation")
    # gshard-eval was stopped: sentences, but no table.
    (made.workdir / "eval" / "7" / "test").mkdir(parents=True)
    assert "model-index" not in write(made, form, tmp_path / "out")[0]


def hostile(run: Run, prepared: Prepared, data_dir: pathlib.Path, text: str) -> Run:
    """Returns a run whose data have a corpus of that name and licence."""
    manifest = json.loads(json.dumps(prepared.manifest))
    for each in manifest["recipe"]["corpora"]:
        each.update(name=text, license=text)
    for info in manifest["pairs"].values():
        for each in info["train"]["corpora"]:
            each["name"] = text
    data_dir.mkdir()
    (data_dir / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    fingerprint = dataclasses.replace(prepared, manifest=manifest).fingerprint
    return run._replace(data_dir=data_dir, data_fingerprint=fingerprint)


def test_names_that_others_chose_break_neither_yaml_nor_tables(made, prepared, tmp_path, form):
    text = "a: [b]\n---\n# c | d\r\n\u2028`<b>` {{ made }} 'no\" \\| \x85"
    made = made._replace(
        workdir=tmp_path / text.replace("/", ""),
        run=hostile(made.run, prepared, tmp_path / "data", text),
    )
    evaluate(made.workdir, 7)
    path = made.workdir / "eval" / "7" / "test" / "table.json"
    table = json.loads(path.read_text(encoding="utf-8")) | {"split": text}
    table["signatures"]["bleu"] = text
    path.write_text(json.dumps(table), encoding="utf-8")
    head, page = write(made, form, tmp_path / "out")
    results = head["model-index"][0]["results"]
    assert head["model-index"][0]["name"] == text
    assert {each["dataset"]["type"] for each in results} == {text}
    assert results[0]["metrics"][0]["args"] == {"signature": text}
    assert head["language"] == ["de", "fr", "en"] and head["tags"] == ["translation", form]
    assert "<b>" not in page and "\n---\n" not in page and "\n# c" not in page
    data, scores = (rows(section(page, title)) for title in ("Training data", "Evaluation"))
    assert len(data) == 3 and {len(row) for row in data} == {4}
    assert len(scores) == 4 and {len(row) for row in scores} == {7}


def test_languages_are_iso_codes_and_norwegian_is_not_false(made, tmp_path, form):
    pairs = {"sr_Latn-en": 3, "sr-en": 2, "no-en": 5, "ceb-en": 1}
    made = made._replace(run=made.run._replace(train_pairs=pairs))
    head, page = write(made, form, tmp_path / "out")
    assert head["language"] == ["ceb", "no", "sr", "en"]
    assert all(base_language(code) == code for code in head["language"])
    found = rows(page)[2:6]
    assert found[0] == ["no", "Norwegian", "5"] and found[1][1] == "Serbian (Latn)"


def test_a_model_with_experts_is_called_so(made, tmp_path):
    config = dataclasses.replace(made.run.config)
    config.model = dataclasses.replace(config.model)
    config.model.moe = dataclasses.replace(config.model.moe, num_experts=8, gate="top2")
    head, page = write(made._replace(run=made.run._replace(config=config)), "safetensors", tmp_path)
    assert head["tags"] == ["translation", "mixture-of-experts", "safetensors"]
    assert "8 experts" in page and "gate top2" in page


def test_a_card_tells_of_leaks_and_of_earlier_data(made, tmp_path, form):
    evaluate(made.workdir, 7, leaks={"de-en": Leak(4, 2), "fr-en": Leak(0, 0)})
    (made.workdir / "mixtures.jsonl").write_text(
        '{"step": 5, "old": {"data": "x", "pairs": {}}}\n{"st', encoding="utf-8"
    )
    page = write(made, form, tmp_path / "out")[1]
    scores = rows(section(page, "Evaluation"))
    assert scores[0][-1] == "in training" and [row[-1] for row in scores[2:]] == ["4", "0"]
    assert "after step 5; only the latest" in section(page, "Training data")


@pytest.mark.parametrize("broken", ["{", '{"format_version": 1, "rows": [{}]}', "version"])
def test_an_evaluation_that_cannot_be_read_is_one_line(workdir, tmp_path, broken, form):
    own = tmp_path / "run"
    shutil.copytree(workdir, own)
    table = json.dumps(evaluate(own, 7) | {"format_version": 99})
    path = own / "eval" / "7" / "test" / "table.json"
    path.write_text(table if broken == "version" else broken, encoding="utf-8")
    with pytest.raises(DataError, match="table.json: .*; run gshard-eval again, or delete") as info:
        export(own, tmp_path / "out", write=WRITERS[form])
    assert "\n" not in str(info.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_card_reads_the_tables_that_are_written():
    assert TABLE_VERSION == tables.FORMAT_VERSION


def test_a_run_directory_that_is_read_only_is_exported(workdir, tmp_path, form):
    own = tmp_path / "run"
    shutil.copytree(workdir, own)
    evaluate(own, 7)
    folders = [own, *(path for path in own.rglob("*") if path.is_dir())]
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    for folder in folders:
        folder.chmod(0o555)
    try:
        export(own, tmp_path / "out", write=WRITERS[form])
        copied = [path for path in (tmp_path / "out").rglob("*") if path.is_dir()]
        assert all(path.stat().st_mode & 0o200 for path in copied)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*")} == before
    results = read(tmp_path / "out")[0]["model-index"][0]["results"]
    assert results[0]["metrics"][0]["value"] == SCORES["de-en"].bleu


@pytest.mark.parametrize("license", ["CC-BY-4.0", "cc by", "a: b", "---", "mit\n"])
def test_a_license_of_another_form_is_one_line(license):
    with pytest.raises(ConfigError, match="--license: found .* accepted: .*cc-by-4.0") as info:
        check_license(license)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("license", ["", "cc-by-4.0", "apache-2.0", "c-uda", "llama3.1", "other"])
def test_a_license_as_the_hub_calls_it_is_accepted(license):
    check_license(license)
