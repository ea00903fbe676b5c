"""gshard-score writes a row for each pair: columns or JSON, in shards, resumed, errors by line."""
# SPDX-License-Identifier: Apache-2.0

import importlib
import json
import sys
from unittest import mock

import pytest

from gshard_mt.decode.score import Scorer
from tests.cli.calling import call, call_main, one_device, refused
from tests.cli.test_commands import home  # noqa: F401 (a fixture)
from tests.making.made_up import english_sentences, translated

WINDOW = 4  # pairs
LONG = "a b c " * 50
TEXTS = [" ".join(text.split()[1:3]) for text in english_sentences()[::31]]
PAIRS = [(translated(text, "de"), text) for text in TEXTS]
PAIRS[1], PAIRS[2], PAIRS[6] = ("日本 🙂\u0085", "a\u2028é"), ("", ""), (LONG, TEXTS[6])
COLUMNS = "".join(f"{source}\t{target}\n" for source, target in PAIRS)
OBJECTS = [
    {"id": number, "source": source, "target": target, "of": {"x": [None, 0.1]}}
    for number, (source, target) in enumerate(PAIRS)
]


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def score(home):  # noqa: F811
    """Calls the command with short windows."""

    def start() -> None:
        name = "gshard_mt.cli.score"
        sys.modules.pop(name, None)  # so that it defines its flags
        module = importlib.import_module(name)
        del sys.modules[name]
        module.WINDOW = WINDOW  # type: ignore
        module.entry()

    def run(*arguments, input: str | bytes = b""):
        words = ["score", "--workdir", home / "run", *arguments]
        content = input.encode() if isinstance(input, str) else input
        with one_device():
            return call_main(start, [str(word) for word in words], content)

    return run


def lines(done) -> list[str]:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split("\n")[:-1]


def objects(done) -> list[dict]:
    return [json.loads(line) for line in lines(done)]


def json_lines(rows: list[dict]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_a_row_has_the_mean_and_the_log_probability_of_each_token(score):
    rows = [row.split("\t") for row in lines(score(input=COLUMNS))]
    assert len(rows) == len(PAIRS) and len({mean for mean, _ in rows}) > 6
    for mean, tokens in rows:
        values = [float(value) for value in tokens.split(" ")]
        assert all(value <= 0 for value in values)
        assert float(mean) == pytest.approx(sum(values) / len(values), abs=2e-6)
    assert [len(tokens.split(" ")) for _, tokens in rows][2] == 1  # the end of an empty target
    assert lines(score("--notokens", input=COLUMNS)) == [mean for mean, _ in rows]


def test_json_has_the_same_numbers_and_keeps_other_fields(score):
    rows = [row.split("\t") for row in lines(score(input=COLUMNS))]
    found = objects(score("--jsonl", input=json_lines(OBJECTS)))
    for row, (mean, tokens), given in zip(found, rows, OBJECTS, strict=True):
        assert list(row)[:4] == list(given) and {**row, **given} == row
        assert row["score"] == float(mean) and row["num_tokens"] == len(row["tokens"])
        assert row["token_scores"] == [float(value) for value in tokens.split(" ")]
        assert row["sum"] == pytest.approx(row["score"] * row["num_tokens"], abs=1e-4)
        assert row["tokens"][-1] == "</s>"
    assert "<0xA9>" in found[1]["tokens"]  # a byte of a letter
    assert [row.get("truncated") for row in found].count(["source"]) == 1
    short = objects(score("--jsonl", "--notokens", "--prefix", "x_", input=json_lines(OBJECTS)))
    assert list(short[0]) == [*OBJECTS[0], "x_score", "x_sum", "x_num_tokens"]
    assert [row["x_score"] for row in short] == [row["score"] for row in found]


def test_what_was_cut_is_told_at_the_end(score):
    said = score(input=COLUMNS).stderr.decode().splitlines()[-1]
    assert said.startswith(f"truncated   1 of {len(PAIRS)} pairs ")
    assert "decode.max_source_length=16" in said and "(line 7)" in said


def test_shards_of_several_files_are_those_of_one_input(score, tmp_path):
    whole = lines(score(input=COLUMNS))
    halves = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    for path, start in zip(halves, (0, 5), strict=True):
        path.write_text("\n".join(COLUMNS.split("\n")[start : start + 5 if not start else None]))
    inputs = [word for path in halves for word in ("--input", path)]
    shards = [lines(score(*inputs, f"--shard={index}/3")) for index in (1, 2, 3)]
    assert shards == [whole[index::3] for index in range(3)]


def test_an_output_is_resumed_after_it_was_killed(score, tmp_path):
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(json_lines(OBJECTS))
    whole = score("--jsonl", input=json_lines(OBJECTS))
    command = ("--jsonl", "--input", path, "--output", output, "--resume")
    calls, original = iter([1, 2]), Scorer.score

    def run(self, *arguments):
        if next(calls, None) is None:
            raise KilledError
        return original(self, *arguments)

    with mock.patch.object(Scorer, "score", run), pytest.raises(KilledError):
        score(*command)
    assert len(output.read_text().split("\n")) == 2 * WINDOW + 1
    line = refused(score(*command, "--notokens"))
    assert "--tokens: found False, accepted: True, with which " in line
    done = score(*command)
    assert lines(done) == [] and output.read_bytes() == whole.stdout
    said = done.stderr.decode().splitlines()
    assert said[0] == f"resumed     {output}: 8 lines are scored by checkpoint 4"
    assert said[-1] == whole.stderr.decode().splitlines()[-1]  # the cut line was scored before
    assert (
        f"finished    {output}: all {len(PAIRS)} lines are scored"
        in score(*command).stderr.decode()
    )


@pytest.mark.parametrize(
    ("bad", "flags", "expected"),
    [
        ("ein Haus", (), "found 1 columns, accepted: 2, source TAB target"),
        ("a\tb\tc", (), "found 3 columns, accepted: 2, source TAB target"),
        ("", (), "found 1 columns"),
        ("ein Haus", ("--jsonl",), "not JSON: "),
        ('["a", "b"]', ("--jsonl",), "found no pair, accepted: an object with the strings source"),
        ('{"source": "a", "target": null}', ("--jsonl",), "found no pair"),
        ('{"source": "a"}', ("--jsonl",), "found no pair"),
        ('{"source": "a", "target": "b", "score": 1}', ("--jsonl",), "found the field score, "),
        (
            '{"source": "a", "target": "b", "my_sum": 1}',
            ("--jsonl", "--prefix=my_"),
            "found the field my_sum, ",
        ),
    ],
)
def test_a_line_without_a_pair_is_refused_with_its_place(score, tmp_path, bad, flags, expected):
    good = '{"source": "a", "target": "b"}' if flags else "a\tb"
    content = f"{good}\n{bad}\n"
    path = tmp_path / "pairs"
    path.write_text(content)
    with mock.patch("gshard_mt.decode.loading.load_translator", side_effect=AssertionError):
        assert f"error: {path}:2: {expected}" in refused(score("--input", path, *flags))
    assert f"error: standard input:2: {expected}" in refused(score(*flags, input=content))


def test_a_prefix_is_refused_without_json(score):
    assert "--prefix: found without --jsonl" in refused(score("--prefix=x", input=COLUMNS))


def test_half_of_a_character_in_json_is_no_bug(score):
    text = '{"source": "a", "target": "b \\ud83d", "more": "\\ud83d"}\n'
    (row,) = objects(score("--jsonl", input=text))
    assert row["target"] == "b \ufffd" and row["more"] == "\ufffd"


def test_translations_of_gshard_translate_can_be_scored(score, home):  # noqa: F811
    source = "".join(f"{source}\n" for source, _ in PAIRS[:5]).encode()
    flags = ("--workdir", home / "run", "--jsonl", "--nbest", "2")
    text = call("translate", *flags, input=source).stdout
    assert "found the field score" in refused(score("--jsonl", input=text))
    found = objects(score("--jsonl", "--prefix=forced_", input=text))
    assert [row["line"] for row in found] == [1, 1, 2, 2, 3, 4, 4, 5, 5]
    assert all(row["forced_sum"] < 0 for row in found)


def test_an_unknown_language_is_refused(score):
    assert "source_language: found 'xx'" in refused(score("--source_language=xx", input=COLUMNS))
