"""The Python interface does what the commands do, on any devices, and refuses what they refuse."""
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from gshard_mt import api
from gshard_mt.config.load import load_config
from gshard_mt.data.manifest import read_manifest
from gshard_mt.errors import CheckpointError, ConfigError, DataError
from gshard_mt.export.folder import export
from tests.cli.calling import call, first_devices, refused
from tests.cli.test_commands import home, no_page  # noqa: F401 (fixtures)
from tests.export.made_run import make_run
from tests.making.made_up import english_sentences, translated

ROOT = pathlib.Path(__file__).parents[1]
TEXTS = [translated(text, "de") for text in english_sentences()[::60]] + ["", "日本 \u2028🙂"]
LINES = "".join(f"{text}\n" for text in TEXTS)
PAIRS = [(text, "the dog sees nothing") for text in TEXTS[:4]] + [("", ""), ("a\udc80", "ö")]
# In a process that has parsed no flags and whose JAX has one device.
ALONE = """
import json, sys
from gshard_mt import api
early = [name for name in ("jax", "absl.flags", "matplotlib") if name in sys.modules]
model = api.load(sys.argv[1], beam_size=2)
found = api.translate(model, json.loads(sys.argv[2]), nbest=2)
import jax
print(json.dumps([early, jax.device_count(), jax.config.jax_compilation_cache_dir, found]))
"""


@pytest.fixture(scope="module")
def model(home) -> api.LoadedModel:  # noqa: F811
    return api.load(home / "run", beam_size=2)


@pytest.fixture(autouse=True)
def devices():
    """Commands have all devices, as the library."""
    with first_devices(8):
        yield


def test_there_are_five_names():
    assert sorted(api.__all__) == ["evaluate", "load", "prepare", "score", "translate"]


def test_texts_are_translated_as_the_command_does(home, model):  # noqa: F811
    flags = ("--workdir", home / "run", "--jsonl", "--beam_size=2")

    def rows(*more, input: str = LINES) -> list[tuple]:
        done = call("translate", *flags, *more, input=input.encode())
        assert done.returncode == 0, done.stderr.decode()
        lines = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
        return [(line["line"], line["target"], line["score"]) for line in lines]

    def own(found) -> list[tuple]:
        return [
            (number, each.text, round(each.score, 4))
            for number, best in enumerate(found, 1)
            for each in best
        ]

    best = api.translate(model, TEXTS, nbest=2)
    assert own(best) == rows("--nbest=2")
    sampled = api.translate(model, iter(TEXTS), nbest=3, sample=0.7, seed=3)
    assert own(sampled) == rows("--nbest=3", "--sample=0.7", "--seed=3")
    begun = api.translate(model, TEXTS[:2], prefix=["the dog", ""], source_language="deu")
    expected = rows("--force_prefix", input=f"{TEXTS[0]}\tthe dog\n{TEXTS[1]}\n")
    assert own(begun) == expected and begun[0][0].text.startswith("the dog")
    earlier = api.load(home / "run", step=2, beam_size=2)
    assert own(api.translate(earlier, TEXTS)) == rows("--step=2") != own(best)
    [greedy] = api.translate(model, TEXTS[:1], 2, prefix="a", beam_size=1, length_penalty=0)
    assert len(greedy) == 1 and greedy[0].text.startswith("a")
    assert greedy[0].score != api.translate(model, TEXTS[:1], prefix="a", beam_size=1)[0][0].score
    assert api.translate(model, ["\ud800", "a\nb"])[1][0].text and api.translate(model, []) == []


def test_pairs_are_scored_as_the_command_does(home, model):  # noqa: F811
    lines = "".join(f"{source}\t{target}\n" for source, target in PAIRS[:-1])
    done = call("score", "--workdir", home / "run", input=lines.encode())
    expected = [line.split("\t") for line in done.stdout.decode().splitlines()]
    scores = api.score(model, PAIRS)
    assert len(scores) == len(PAIRS) and api.score(model, []) == []
    for one, (mean, tokens) in zip(scores, expected, strict=False):
        assert f"{one.mean:.6f}" == mean
        assert [f"{each:.6f}" for each in one.token_scores] == tokens.split(" ")


def test_a_test_set_is_evaluated_as_the_command_does(home, model, no_page, tmp_path):  # noqa: F811
    folder = home / "run" / "eval" / "4"
    own = api.evaluate(model, "dev", metrics=["ter"], baseline=api.load(home / "run"))
    tables = [(folder / "dev" / "table.json").read_text()]
    command = ("evaluate", "--workdir", home / "run", "--decode", "beam_size=2")
    done = call(*command, "--split=dev", "--metrics=ter", "--baseline", home / "run")
    assert done.returncode == 0, done.stderr.decode()
    tables.append((folder / "dev" / "table.json").read_text())
    assert tables[0] == tables[1] and own.rows[0].to_fields() == json.loads(tables[0])["rows"][0]

    references = home / "data" / "references" / "fr-en.test.tsv"
    (tmp_path / "mine.tsv").write_bytes(references.read_bytes())
    mine = f"fr-en={tmp_path / 'mine.tsv'}"
    (row,) = api.evaluate(model, mine).rows
    assert call(*command, "--testset", mine).returncode == 0
    (line,) = json.loads((folder / "testset" / "table.json").read_text())["rows"]
    assert row.to_fields() == line and line["leaked_english"] == 0
    (row,) = api.evaluate(model, [mine], leak_check=False).rows
    assert row.leak is None


def test_text_is_prepared_as_the_command_does(home, tmp_path, capsys):  # noqa: F811
    recipe = str(home / "recipe.toml")
    manifest = api.prepare(home / "config.py", tmp_path / "data", recipe=recipe, num_dev=15)
    assert manifest == read_manifest(home / "data") == read_manifest(tmp_path / "data")
    with pytest.raises(ConfigError, match="config.data.num_dev: found -1, accepted: "):
        api.prepare(home / "config.py", tmp_path / "other", num_dev=-1)
    with pytest.raises(ConfigError, match="config.data.recipes: unknown key; did you mean recipe?"):
        api.prepare(home / "config.py", tmp_path / "other", recipes="x")
    assert not (tmp_path / "other").exists()
    os.utime(home / "de.tsv", (2e9, 2e9))
    capsys.readouterr()
    assert api.prepare(load_config(home / "config.py"), tmp_path / "data") == manifest
    assert "de.tsv changed after this was prepared" in capsys.readouterr().err


def test_an_export_is_loaded_like_its_run_on_any_number_of_devices(
    tmp_path,
    config,
    prepared,
    no_page,  # noqa: F811
):
    made = make_run(tmp_path, config, prepared, {"num_experts": 0})
    export(made.workdir, tmp_path / "model", "7")
    (tmp_path / "mine.tsv").write_text(f"{TEXTS[0]}\tthe dog\n")
    expected = api.score(api.load(tmp_path / "run"), PAIRS)
    with first_devices(1):  # the run's own grid has eight
        run, model = (api.load(tmp_path / name, beam_size=1) for name in ("run", "model"))
        assert run.translator.mesh.size == model.translator.mesh.size == 1
        assert api.translate(run, TEXTS) == api.translate(model, TEXTS)
        scores = api.score(run, PAIRS)
        assert scores == api.score(model, PAIRS)
    for one, other in zip(scores, expected, strict=True):
        assert one.token_scores == pytest.approx(other.token_scores, abs=1e-5)
    data = prepared.directory
    (row,) = api.evaluate(model, f"de-en={tmp_path / 'mine.tsv'}", data).rows
    assert row.score.sentences == 1 and row.leak
    with pytest.raises(DataError, match="manifest.json"):
        api.evaluate(model)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["a"], {"nbest": 3}, "^nbest: found 3, accepted: 1 to 2, the number of beams$"),
        (["a"], {"nbest": 0, "sample": 1.0}, "^nbest: found 0, accepted: 1 or more$"),
        (["a"], {"sample": -1.0}, "^sample: found -1.0, accepted: a temperature, e.g. 0.8$"),
        (["a"], {"beam_size": 4}, "^beam_size: found 4, accepted: 1 to 2, the number of beams$"),
        (["a"], {"length_penalty": -1}, "^config.decode.length_penalty: found -1, accepted: "),
        (["a"], {"source_language": "nl"}, "^source_language: found 'nl', this run was not train"),
        (["a"], {"prefix": ["b", "c"]}, "^prefix: found 2, accepted: one, or one for each text$"),
        (["a", None], {}, "^texts.1.: found None, accepted: a string$"),
        ("abc", {}, "^texts: found a string, accepted: a list of strings$"),
    ],
)
def test_what_cannot_be_translated_is_one_line(model, arguments, options, message):
    with pytest.raises(ConfigError, match=message):
        api.translate(model, arguments, **options)


def test_what_cannot_be_loaded_or_scored_is_one_line(home, model, tmp_path):  # noqa: F811
    def said(*flags) -> str:
        return refused(call("translate", *flags)).removeprefix("error: ").rstrip()

    run = ("--workdir", home / "run")
    for folder, options, error, flags in (
        (tmp_path, {}, CheckpointError, ("--workdir", tmp_path)),
        (home / "run", {"step": 77}, CheckpointError, (*run, "--step=77")),
        (home / "run", {"beams": 2}, ConfigError, (*run, "--decode", "beams=2")),
        (home / "run", {"beam_size": 0}, ConfigError, (*run, "--decode", "beam_size=0")),
    ):
        with pytest.raises(error) as raised:
            api.load(folder, **options)
        assert str(raised.value) == said(*flags)
    for pair in ("ab", ("a",), ("a", None), None):
        with pytest.raises(ConfigError, match=r"^pairs\[1\]"):
            api.score(model, [("a", "b"), pair])  # type: ignore


def test_a_process_of_its_own_has_one_device_and_keeps_what_it_compiles(
    home,  # noqa: F811
    model,
    monkeypatch,
):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("XLA_FLAGS")
    words = [sys.executable, "-c", ALONE, home / "run", json.dumps(TEXTS[:3])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    early, num_devices, folder, found = json.loads(done.stdout)
    assert (early, num_devices, folder) == ([], 1, str(home / ".compilation_cache"))
    assert list(pathlib.Path(folder).glob("*-cache"))
    expected = api.translate(model, TEXTS[:3], nbest=2)
    assert [[text for text, *_ in best] for best in found] == [
        [each.text for each in best] for best in expected
    ]


def test_the_page_does_what_it_says(home, model, tmp_path, monkeypatch, no_page, capsys):  # noqa: F811
    for name in ("configs", "build/my"):
        (tmp_path / name).mkdir(parents=True)
    for name, original in (("configs/small.py", "config.py"), ("build/my/run", "run")):
        (tmp_path / name).symlink_to(home / original)
    for path in home.glob("*.t*"):  # the recipe and its text
        (tmp_path / path.name.replace("recipe", "my")).write_bytes(path.read_bytes())
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert names["manifest"] == read_manifest(tmp_path / "build/my/data")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + 1 + 2 + 3 + 1 and "Two dogs" in printed[2]
    assert [line.split()[0] for line in printed[5:8]] == ["de-en", "fr-en", "lb-en"]
