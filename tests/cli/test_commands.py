"""The commands as a user types them: from a recipe to a table, and one clear line for bad input."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import shutil
import subprocess
import sys
import unicodedata

import pytest

from gshard_mt.config.records import DataConfig
from gshard_mt.evaluate import report
from tests.cli.calling import call, command, refused
from tests.evaluate.made_comet import write_program
from tests.making.made_up import write_made_up, write_recipe

CONFIG = """
from gshard_mt.config import records as c
from gshard_mt.config.records import AugmentationConfig, CleaningConfig, DataConfig

def get_config():
    config = c.Config(data={data!r})
    config.model = c.ModelConfig(  # without experts it is compiled in a third of the time
        num_layers=2, model_dim=16, ffn_dim=32, num_heads=2, head_dim=8,
        moe=c.MoeConfig(num_experts=0, group_size=16),
    )
    config.train = c.TrainConfig(
        num_steps=4, batch_rows=16, log_every=2, eval_every=4, save_every=2, warmup_steps=2,
        schedule="constant",
    )
    config.decode.batch_size = 8
    config.decode.max_source_length = 16  # one program for all
    config.mesh.num_cpu_devices = 8
    return config
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> pathlib.Path:
    """A folder with a config, prepared data and a finished run."""
    folder = tmp_path_factory.mktemp("home")
    data = write_made_up(folder)
    (folder / "config.py").write_text(CONFIG.format(data=data), encoding="utf-8")
    config, data_dir = folder / "config.py", folder / "data"
    done = call("prepare_data", "--config", config, "--data_dir", data_dir)
    assert done.returncode == 0, done.stderr.decode()
    done = call("train", "--config", config, "--data_dir", data_dir, "--workdir", folder / "run")
    assert done.returncode == 0, done.stderr.decode()
    assert "parameters" in done.stdout.decode()
    return folder


@pytest.fixture
def no_page(monkeypatch) -> None:
    """Evaluations draw no pictures, which takes longer than all the rest."""
    monkeypatch.setattr(report, "write", lambda report, folder: folder / "report.html")


@pytest.fixture
def train_flags(home) -> tuple:
    return ("--config", home / "config.py", "--data_dir", home / "data")


def test_a_run_records_what_its_data_were_made_with(home, train_flags, tmp_path):
    text = (home / "config.py").read_text(encoding="utf-8")
    for old, new in (("recipe.toml", "other.toml"), ("vocab_size=330", "vocab_size=8000")):
        assert old in text
        text = text.replace(old, new)
    text = text.replace("source_length=40", "source_length=20")
    (tmp_path / "config.py").write_text(text, encoding="utf-8")
    flags = ("--config", tmp_path / "config.py", *train_flags[2:], "--workdir", tmp_path / "run")
    line = refused(call("train", *flags, "--config.data.source_vocab_size=9000"))
    assert f"found 9000, {home / 'data' / 'manifest.json'} has 330; accepted: nothing" in line
    assert not (tmp_path / "run").exists()
    done = call("train", *flags, "--config.data.temperature=7")
    assert done.returncode == 0, done.stderr.decode()
    ours, others = (
        json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]["data"]
        for folder in (tmp_path / "run", home / "run")
    )
    assert ours == others | {"temperature": 7.0}
    assert ours["recipe"] == str(home / "recipe.toml")
    # As older versions left it: what a config file said.
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["config"]["data"] |= {"recipe": "other.toml", "source_vocab_size": 8000}
    path.write_text(json.dumps(record), encoding="utf-8")
    done = call("train", *flags, "--config.data.temperature=7", "--config.train.num_steps=5")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(path.read_text(encoding="utf-8"))["config"]["data"] == ours


def test_a_model_that_cant_be_is_refused_before_a_translator_of_it_is_made(home, tmp_path):
    text = (home / "config.py").read_text(encoding="utf-8")
    text = text.replace("num_experts=0", "num_experts=6").replace("num_layers=2", "num_layers=4")
    (tmp_path / "config.py").write_text(text, encoding="utf-8")
    flags = ("--config", tmp_path / "config.py", "--data_dir", home / "data")
    flags = (*flags, "--workdir", tmp_path / "run")
    line = refused(call("train", *flags, "--config.train.bleu_every=2"))
    assert "config.model.moe.num_experts: found 6, accepted: a multiple of 8" in line
    line = refused(
        call("train", *flags, "--config.train.bleu_every=2", "--config.model.moe.gate=to")
    )
    assert "config.model.moe.gate: found 'to'" in line


def test_eval_writes_the_table_that_sacrebleu_prints(home):
    done = call("evaluate", "--workdir", home / "run", "--split", "test")
    assert done.returncode == 0, done.stderr.decode()
    folder = home / "run" / "eval" / "4" / "test"
    table = json.loads((folder / "table.json").read_text())
    assert {row["pair"] for row in table["rows"]} == {"de-en", "fr-en", "lb-en"}
    for row in table["rows"]:
        reference = home / "data" / "references" / f"{row['pair']}.test.tsv"
        lines = reference.read_text(encoding="utf-8").splitlines()
        english = folder / f"{row['pair']}.ref.txt"
        assert english.read_text(encoding="utf-8").splitlines() == [
            line.split("\t")[1] for line in lines
        ]
        assert row["sentences"] == len(lines)
        if row["pair"] != "de-en":  # one process is enough
            continue
        words = [sys.executable, "-m", "sacrebleu", english]
        words += ["-i", folder / f"{row['pair']}.hyp.txt"]
        found = subprocess.run([*words, "-m", "bleu", "-b", "-w", "6"], capture_output=True)
        assert float(found.stdout) == pytest.approx(row["bleu"], abs=1e-6)
    assert "average" in done.stdout.decode()
    assert done.stderr.decode().splitlines()[-1] == f"report      {folder / 'report.html'}"
    assert (folder / "report.html").exists() and list((folder / "pictures").glob("*.png"))


def test_an_evaluation_is_written_elsewhere_and_still_compared(home, tmp_path, no_page):
    shutil.copytree(home / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "eval", ignore_errors=True)
    (tmp_path / "run" / "eval").touch()  # it can't be written
    words = ("--workdir", tmp_path / "run", "--split", "dev")
    line = refused(call("evaluate", *words))
    assert f"{tmp_path / 'run' / 'eval'}: can't be written" in line and "--out=FOLDER" in line
    done = call("evaluate", *words, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr.decode()
    folder = tmp_path / "out" / "eval" / "4" / "dev"
    assert (folder / "calibration.json").exists() and (folder / "reliability.md").exists()
    evals = ("--eval", tmp_path / "out", "--eval", folder)
    done = call("compare", *evals, "--out", tmp_path / "comparison")
    assert done.returncode == 0, done.stderr.decode()
    assert "run" in done.stdout.decode().splitlines()[3]


def test_eval_compares_with_another_run_and_with_files(home, tmp_path, no_page):
    run = ("--workdir", home / "run", "--split", "dev")
    done = call("evaluate", *run, "--baseline", home / "run")
    assert done.returncode == 0, done.stderr.decode()
    folder = home / "run" / "eval" / "4" / "dev"
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert {(row["delta_bleu"], row["baseline_bleu"] == row["bleu"]) for row in rows} == {(0, True)}
    assert "better than the baseline at p < 0.05: 0 of 3" in done.stdout.decode()
    for path in folder.glob("*.hyp.txt"):
        reference = home / "data" / "references" / path.name.replace(".hyp.txt", ".dev.tsv")
        lines = reference.read_text(encoding="utf-8").splitlines()
        english = "".join(line.split("\t")[1] + "\n" for line in lines)
        (tmp_path / path.name).write_text(english, encoding="utf-8")
    done = call("evaluate", *run, "--baseline_hyps", tmp_path)
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert {round(row["baseline_bleu"]) for row in rows} == {100}
    assert "worse than the baseline at p < 0.05: 3 of 3" in done.stdout.decode()
    (tmp_path / "fr-en.hyp.txt").write_text("one line\n", encoding="utf-8")
    line = refused(call("evaluate", *run, "--baseline_hyps", tmp_path))
    assert "fr-en.hyp.txt: found 1 lines, accepted: " in line
    assert "--baseline_hyps" in refused(
        call("evaluate", *run, "--baseline_hyps", tmp_path, "--baseline", home / "run")
    )


def test_eval_scores_perturbed_sentences_beside_the_plain_ones(home, no_page):
    run = ("--workdir", home / "run", "--split", "dev", "--perturb", "upper_case,typos")
    done = call("evaluate", *run)
    assert done.returncode == 0, done.stderr.decode()
    beside = done.stdout.decode().split("\n\n")[-1].splitlines()
    assert beside[0].split() == ["sentences", "BLEU", "chrF", "difference"]
    assert [line.split()[0] for line in beside[2:]] == ["dev", "dev-upper_case", "dev-typos"]
    folder = home / "run" / "eval" / "4"
    references = (folder / "dev-upper_case" / "de-en.ref.txt").read_text(encoding="utf-8")
    plain = (folder / "dev" / "de-en.ref.txt").read_text(encoding="utf-8")
    assert references == plain.upper() != plain
    table = json.loads((folder / "dev-upper_case" / "table.json").read_text())
    assert beside[3].split()[1] == f"{table['averages']['all']['bleu']:.1f}"
    assert "--perturb: found 'x'" in refused(call("evaluate", *run, "--perturb", "x"))
    assert "--baseline_hyps" in refused(call("evaluate", *run, "--baseline_hyps", folder))


def test_eval_scores_any_sentences_and_looks_for_them_in_training(
    home, tmp_path, no_page, monkeypatch
):
    lines = (home / "data" / "references" / "fr-en.test.tsv").read_text(encoding="utf-8")
    (tmp_path / "mine.tsv").write_text(lines, encoding="utf-8")
    run = ("--workdir", home / "run", "--testset", f"fr-en={tmp_path / 'mine.tsv'}")
    monkeypatch.setenv("COMET_SCORE", str(write_program(tmp_path / "env")))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    done = call("evaluate", *run, "--metrics", "chrf++,ter,comet", "--step", "average")
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert "in the training data: none of these sentences" in said and "chrf++" in said
    table = json.loads((home / "run/eval/average-4/testset/table.json").read_text())
    (row,) = table["rows"]
    assert row["leaked_sources"] == row["leaked_english"] == 0 and row["ter"] > 0
    assert table["averages"]["all"]["bleu_low"] == pytest.approx(row["bleu_low"])
    assert table["signatures"]["chrf++"].split("|")[4] == "nw:2"
    assert table["averages"]["all"]["comet"] == row["comet"] > 0 and "|unbabel-comet:" in said
    assert "failed with status 1" in refused(call("evaluate", *run, "--metrics", "comet:unknown"))
    assert "--metrics: found 'blue'" in refused(call("evaluate", *run, "--metrics", "blue"))
    assert "--testset" in refused(call("evaluate", "--workdir", home / "run", "--testset", "x"))


def test_translate_writes_a_line_for_a_line(home):
    text = "ä dög sées\n\nnobödy  the séa\nlast line without an end".encode()
    done = call("translate", "--workdir", home / "run", "--source_language", "de", input=text)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")
    assert len(lines) == 5 and lines[1] == "" and lines[4] == ""


def test_translate_lists_hypotheses_with_scores_beside_the_line(home, tmp_path):
    lines = ["ä dög sées", "", "nobödy  the\tséa"]
    (tmp_path / "a.txt").write_text(lines[0] + "\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    run = ("--workdir", home / "run", "--input", tmp_path / "a.txt", "--input", tmp_path / "b.txt")
    options = ("--nbest", "3", "--scores", "--tsv", "--output", tmp_path / "out.tsv")

    def table(*arguments) -> list[list[str]]:
        done = call("translate", *run, *options, *arguments)
        assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
        text = (tmp_path / "out.tsv").read_text(encoding="utf-8")
        return [row.split("\t") for row in text.splitlines()]

    rows = table()
    assert [(row[0], row[2]) for row in rows if row[0] != "2"] == [
        *[("1", "ä dög sées")] * 3,
        *[("3", "nobödy  the séa")] * 3,
    ]
    assert [row for row in rows if row[0] == "2"] == [["2", "0.0000", "", ""]]
    scores = [float(row[1]) for row in rows if row[0] == "1"]
    assert scores == sorted(scores, reverse=True) and scores[0] < 0
    best = call("translate", *run).stdout.decode().splitlines()
    assert best == [rows[0][3], "", rows[4][3]]
    drawn = table("--sample", "1.5", "--seed", "7")
    assert drawn == table("--sample", "1.5", "--seed", "7") != rows
    line = refused(call("translate", *run, "--nbest", "9"))
    assert "--nbest: found 9, accepted: 1 to 4" in line
    assert "--beam_size" in refused(call("translate", *run, "--beam_size", "0"))
    assert "nothing.txt" in refused(
        call("translate", "--workdir", home / "run", "--input", tmp_path / "nothing.txt")
    )


def test_confidence_comes_from_an_evaluation_of_dev(home, tmp_path, no_page):
    shutil.copytree(home / "run", tmp_path / "run")  # without evaluations
    shutil.rmtree(tmp_path / "run" / "eval", ignore_errors=True)
    run = ("--workdir", tmp_path / "run")
    (tmp_path / "in.txt").write_text("ä dög sées\n\nnobödy\n", encoding="utf-8")
    output = tmp_path / "out.txt"
    output.write_text("before", encoding="utf-8")
    written = (*run, "--input", tmp_path / "in.txt", "--output", output, "--confidence")
    line = refused(call("translate", *written))
    assert "--confidence: found none for step 4" in line and "gshard-eval --split dev" in line
    assert output.read_text(encoding="utf-8") == "before"
    evaluated = call("evaluate", *run, "--split", "dev")
    assert evaluated.returncode == 0, evaluated.stderr.decode()
    folder = tmp_path / "run" / "eval" / "4"
    assert {"calibration.json", "reliability.md"} <= {path.name for path in folder.glob("dev/*")}
    assert "Expected calibration error" in evaluated.stderr.decode()
    assert call("translate", *written, "--scores", "--tsv").returncode == 0
    rows = [row.split("\t") for row in output.read_text(encoding="utf-8").splitlines()]
    assert [row[2] for row in rows] == ["ä dög sées", "", "nobödy"]
    assert all(0 < float(row[1]) < 1 for row in rows)
    assert call("translate", *written, "--jsonl").returncode == 0
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [each["confidence"] for each in found] == [float(row[1]) for row in rows]
    for other in (("--nbest", "2"), ("--sample", "1.0"), ("--force_prefix",)):
        assert f"--confidence: found with {other[0]}" in refused(
            call("translate", *written, *other)
        )
    for other in (("--beam_size", "2"), ("--decode", "length_penalty=0.5")):
        line = refused(call("translate", *written, *other))
        assert "--confidence: found of another decode section for step 4" in line
    # Other sentences are measured by it.
    (tmp_path / "news.tsv").write_text("nobödy\tnobody\n", encoding="utf-8")
    news = ("--testset", f"de-en={tmp_path / 'news.tsv'}", "--noleak_check")
    assert b"Expected calibration error" in call("evaluate", *run, *news).stderr
    news = (*news, "--decode", "length_penalty=0.5")
    assert b"Expected calibration error" not in call("evaluate", *run, *news).stderr
    assert not list(folder.glob("testset*/reliability.md"))


SENTENCE = "ä dög sées nothing"


@pytest.mark.parametrize("is_file", [True, False])
def test_other_forms_of_a_text_are_translated_the_same(home, tmp_path, is_file):
    others = [
        unicodedata.normalize("NFD", SENTENCE),
        "\u00ad".join(SENTENCE),
        f"\u200e{SENTENCE}\u200f\u061c",
        SENTENCE.replace(" ", "\u200b\u00a0"),
        SENTENCE.replace(" ", "\x85\u2028"),
        f"\u2067{SENTENCE}\u2069\r",
        f"\ufeff\x00{SENTENCE}",
    ]
    unseen = ["\u200b", "\ufe0f\u200d", "\u3164 \u2800"]
    text = "\n".join(["\ufeff" + SENTENCE, *others, *unseen, "a dög sees nothing"]).encode()
    run = ("--workdir", home / "run", "--scores")
    if is_file:
        (tmp_path / "in.txt").write_bytes(text)
        done = call("translate", *run, "--input", tmp_path / "in.txt")
    else:
        done = call("translate", *run, input=text)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")
    assert set(lines[: 1 + len(others)]) == {lines[0]}
    assert lines[1 + len(others) : -2] == ["0.0000\t"] * len(unseen)
    assert lines[-2] != lines[0]  # which shows that the form could have mattered


def test_an_output_that_is_an_input_is_refused_and_left_whole(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("in.txt").write_bytes(b"eins\nzwei\n")
    pathlib.Path("other.txt").write_bytes(b"drei\n")
    pathlib.Path("soft").symlink_to("in.txt")
    pathlib.Path("hard").hardlink_to("in.txt")
    pathlib.Path("folder").mkdir()
    run = ("--workdir", home / "run", "--input", "in.txt", "--input", "other.txt")
    for name in ("in.txt", tmp_path / "in.txt", "soft", "hard", "folder/../in.txt", "other.txt"):
        line = refused(call("translate", *run, "--output", name))
        assert f"--output: found {name}, which is the same file as the input " in line
    with open("in.txt", "r+b") as file:
        words = [sys.executable, "-m", "gshard_mt.cli.translate", *map(str, run[:2])]
        done = subprocess.run(words, stdin=file, stdout=file, stderr=subprocess.PIPE)
    assert "standard output, which is the same file as the input standard input" in refused(done)
    assert pathlib.Path("in.txt").read_bytes() == b"eins\nzwei\n"
    assert pathlib.Path("other.txt").read_bytes() == b"drei\n"


def test_an_output_that_cant_be_written_is_refused_before_the_model_is_loaded(home, tmp_path):
    (tmp_path / "in.txt").write_bytes(b"eins\n")
    (tmp_path / "loop").symlink_to("loop")
    run = ("--workdir", home / "run", "--step", "77", "--input", tmp_path / "in.txt")
    for name in ("no/such/out.txt", "", "in.txt/out.txt", "loop", "x" * 300):
        line = refused(call("translate", *run, "--output", tmp_path / name))
        assert f"--output: found {tmp_path / name}, which can't be written (" in line


def test_an_output_stays_until_there_is_something_to_write(home, tmp_path):
    (tmp_path / "in.txt").write_bytes("Grüße".encode("cp1252"))
    (tmp_path / "out.txt").write_bytes(b"valuable\n" * 99)
    run = ("--workdir", home / "run", "--output", tmp_path / "out.txt")
    line = refused(call("translate", *run, "--input", tmp_path / "in.txt"))
    assert "in.txt:1: not UTF-8 at byte 3" in line
    refused(call("translate", *run, "--step", "77", input=b"eins\n"))
    assert (tmp_path / "out.txt").read_bytes() == b"valuable\n" * 99
    assert call("translate", *run, input=b"eins\n").returncode == 0
    assert len((tmp_path / "out.txt").read_bytes().splitlines()) == 1


def test_lines_that_are_too_long_are_told_at_the_end(home):
    lines = [b"a b c " * (50 if number in (2, 5) else 1) for number in range(1, 7)]
    command = ("translate", "--workdir", home / "run", "--jsonl")
    done = call(*command, input=b"\n".join(lines))
    assert done.returncode == 0 and done.stdout.count(b"\n") == 6
    assert done.stderr.decode().endswith(
        "in pieces   2 of 6 lines have a sentence longer than decode.max_source_length=16, split "
        "at a comma or a space (line 2, line 5)\n"
    )
    cut = call(*command, "--decode", "split=never", input=b"\n".join(lines))
    assert cut.stderr.decode().endswith(
        "truncated   2 of 6 lines are longer than decode.max_source_length=16 and were cut there "
        "(line 2, line 5); --decode split=long splits them instead\n"
    )
    said = done.stderr.decode().splitlines()[-2]
    assert said.startswith("split       2 of 6 lines are longer than a sentence")
    assert done.stdout.count(b'"in_pieces": true') == cut.stdout.count(b'"truncated": true') == 2


def test_a_translation_begins_as_the_line_asks(home):
    lines = ["das Pferd\tthe dog", "der Hund", "\tthe", "das Haus\t"]
    command = ("translate", "--workdir", home / "run", "--decode", "no_stutter=4", "--tsv")
    done = call(*command, "--force_prefix", input="\n".join(lines).encode())
    rows = [row.split("\t") for row in done.stdout.decode().splitlines()]
    assert [source for source, _ in rows] == ["das Pferd", "der Hund", "", "das Haus"]
    assert rows[0][1].startswith("the dog") and rows[2][1] == ""
    free = call(*command, input="\n".join(["der Hund", "das Haus"]).encode()).stdout.decode()
    assert rows[1::2] == [row.split("\t") for row in free.splitlines()]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("beams=3", "config.decode.beams: unknown key; did you mean beam_size?"),
        ("split", "--decode: found 'split', accepted: KEY=VALUE"),
        ("split=often", "config.decode.split: found 'often', accepted: long, always, never"),
        ("no_stutter=-1", "config.decode.no_stutter: found -1, accepted: 0 or more"),
        ("min_length=two", "config.decode.min_length: found 'two', accepted: "),
    ],
)
def test_what_decode_cannot_be_is_refused(home, value, message):
    done = call("translate", "--workdir", home / "run", "--decode", value, input=b"a")
    assert message in refused(done)


def test_the_line_itself_is_written_beside_its_translation(home):
    lines = ["ä  dög\u00a0 ", " e\u0301\u200b", "a\tb", "\x85"]
    text = "".join(f"{line}\r\n" for line in lines).encode()
    done = call("translate", "--workdir", home / "run", "--tsv", input=text)
    rows = [row.split("\t") for row in done.stdout.decode().split("\n")[:-1]]
    assert [row[0] for row in rows] == [*lines[:2], "a b", "\x85"]
    assert {len(row) for row in rows} == {2}


def test_a_finished_run_is_finished(home, train_flags):
    before = (home / "run" / "metrics.jsonl").read_text()
    done = call("train", *train_flags, "--workdir", home / "run")
    assert done.returncode == 0, done.stderr.decode()
    assert (home / "run" / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("prepare_data", ("--data_dir", "data")),
        ("train", ("--data_dir", "data", "--workdir", "run")),
        ("plan", ("--topology", "cpu:8")),
    ],
)
def test_a_refused_config_is_one_line_and_makes_nothing(tmp_path, monkeypatch, name, flags):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG.format(data=DataConfig()))
    done = call(name, "--config=config.py", *flags, "--config.model.moe.gate=top3")
    assert "config.model.moe.gate: found 'top3', accepted: top2, " in refused(done)
    assert {path.name for path in tmp_path.iterdir()} <= {"config.py", "__pycache__"}


def test_preparing_without_a_recipe_is_refused_with_the_flag(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG.format(data=DataConfig()))
    arguments = ("--config", tmp_path / "config.py", "--data_dir", tmp_path / "data")
    assert "--config.data.recipe=FILE.toml" in refused(call("prepare_data", *arguments))


def test_a_place_that_is_no_run_directory_is_refused_and_left_as_it_is(home, train_flags, tmp_path):
    shutil.copytree(home / "data", tmp_path / "data")
    (tmp_path / "file").write_text("text")
    before = sorted(tmp_path.rglob("*"))
    for place, found in (("data", "de-en"), ("file", "a file"), ("", "data")):
        line = refused(call("train", *train_flags, "--workdir", tmp_path / place))
        assert f"found {found}" in line and "accepted as --workdir: a run directory" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_directory_of_another_config_is_refused_with_the_key(home, train_flags):
    flag = "--config.model.dropout_rate=0.5"
    line = refused(call("train", *train_flags, "--workdir", home / "run", flag))
    assert "model.dropout_rate: found 0.5, the run has 0.1" in line


def test_what_a_run_cannot_begin_with_is_one_line_and_the_right_command_then_works(
    home, train_flags, tmp_path
):
    run, damaged, new = home / "run", tmp_path / "damaged", tmp_path / "new"

    def train(init_from, *values: str) -> subprocess.CompletedProcess:
        given = [f"--config.{value}" for value in values]
        return call("train", *train_flags, "--workdir", new, "--init_from", init_from, *given)

    for init_from, value, expected in (
        (
            run,
            "model.ffn_dim=48",
            "encoder/layers/0/feed_forward/wi_MH (1, 16, 32), not (1, 16, 48)",
        ),
        (run, "model.ffn_dim=48", "accepted: its sizes (model.ffn_dim=32), more layers"),
        (f"{run}@3", "train.seed=1", "step '3' not found; accepted: latest, best, 2, 4"),
        (home / "data", "train.seed=1", f"is {home / 'data'} a run directory?"),
        (run, "train.freeze=encoder/*,*/wq", "train.freeze: found '*/wq', accepted: globs"),
        (run, "train.rate_scales=decodr/*=2", "train.rate_scales: found 'decodr/*', accepted"),
        ("", "train.l2_sp=1", "train.l2_sp: found 1.0, accepted: 0 in a run that begins at"),
    ):
        assert expected in refused(train(init_from, value))
        assert not new.exists()

    shutil.copytree(run, damaged)
    for path in (damaged / "checkpoints" / "4" / "params").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:-99])
    line = refused(train(damaged))
    assert "checkpoints/4: " in line and f"accepted: --init_from {damaged}@STEP with a who" in line
    done = train(f"{damaged}@2")
    assert done.returncode == 0, done.stderr.decode()
    assert f"begins from {damaged}@2" in done.stdout.decode()


def test_missing_files_are_named(home, tmp_path):
    missing = tmp_path / "missing"
    data_dir = ("--data_dir", tmp_path / "data")
    # The one refusal in a process of its own: its exit status, and nothing else on its output.
    line = refused(command("prepare_data", "--config", missing, *data_dir))
    assert line.startswith(f"error: {missing}: no such file; accepted: the path of a config file, ")
    config = ("--config", home / "config.py")
    recipe = f"--config.data.recipe={missing}.toml"
    assert "missing.toml" in refused(call("prepare_data", *config, *data_dir, recipe))
    workdir = ("--workdir", tmp_path / "run")
    assert "missing" in refused(call("train", *config, "--data_dir", missing, *workdir))
    for name in ("evaluate", "translate", "serve", "verify", "export"):
        more = ("--out", tmp_path / "out") if name == "export" else ()
        line = refused(call(name, "--workdir", missing, *more))
        assert f"is {missing} a run directory?" in line


@pytest.mark.parametrize(
    ("content", "language", "expected"),
    [
        (b"eins\tone\nzwei two\n", "de", "de.tsv:2"),
        (b"eins\tone\tuno\n", "de", "de.tsv:1"),
        (b"eins\tone\nzw\xffei\ttwo\n", "de", "de.tsv:2"),
        (b"", "de", "de.tsv"),
        (b"eins\tone\n", "germann", "germann"),
    ],
)
def test_a_bad_corpus_is_named_with_its_line(home, tmp_path, content, language, expected):
    (tmp_path / "de.tsv").write_bytes(content)
    entry = {"language": language, "source": "tsv:de.tsv", "license": "CC0-1.0"}
    assert expected in refused(_prepare_recipe(home, tmp_path, entry))


def test_a_wheel_of_another_hash_is_refused(home, tmp_path):
    (tmp_path / "made_up.whl").write_bytes(b"PK\x05\x06" + bytes(18))
    entry = {"language": "de", "source": "wheel:made_up.whl", "license": "CC0-1.0"}
    done = _prepare_recipe(home, tmp_path, entry | {"sha256": "1" * 64})
    assert "1" * 64 in refused(done)


def _prepare_recipe(home, folder, entry) -> subprocess.CompletedProcess:
    recipe = f"--config.data.recipe={write_recipe(folder, [entry])}"
    config = ("--config", home / "config.py", recipe)
    return call("prepare_data", *config, "--data_dir", folder / "data")


def test_unfinished_data_and_data_of_another_tokenizer_are_refused(home, train_flags, tmp_path):
    manifest = home / "data" / "manifest.json"
    kept = manifest.read_text()
    record = json.loads(kept)
    try:
        record["tokenizer"]["hash"] = "0" * 64
        manifest.write_text(json.dumps(record))
        line = refused(call("train", *train_flags, "--workdir", home / "run"))
        assert "this run was trained on other prepared data" in line
        assert "not the data" in refused(call("evaluate", "--workdir", home / "run"))
        manifest.write_text(json.dumps(json.loads(kept) | {"finished": False}))
        line = refused(call("train", *train_flags, "--workdir", tmp_path / "run"))
        assert "preparation was not finished" in line
    finally:
        manifest.write_text(kept)
