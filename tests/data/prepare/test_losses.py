"""Text lost to one reason is said, of languages and of corpora, and what has no pair left."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import re

import pytest

from gshard_mt.config.records import CleaningConfig, DataConfig
from gshard_mt.data.cleaning.clean import REASONS
from gshard_mt.data.corpora.entry import SPLITS
from gshard_mt.data.prepare.drops import READ, DropKey, DroppedPair, Drops, Tally
from gshard_mt.data.prepare.losses import find_losses
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepare.summary import counts_table
from gshard_mt.errors import DataError
from tests.making.made_up import english_sentences, translated, write_made_up, write_recipe


def _drops(counts: dict[tuple[str, int, str], int]) -> Drops:
    drops = Drops()
    for key, number in counts.items():
        samples = tuple(DroppedPair((key[1] << 40) + n, "a", "b") for n in range(min(3, number)))
        drops.add(DropKey(*key), Tally(number, () if key[2] == READ else samples))
    return drops


def _lines(counts, num_left, most: float = 0.2) -> list[str]:
    corpora = ["tsv:a", "tsv:b"]
    return [loss.describe() for loss in find_losses(_drops(counts), num_left, corpora, most)]


def test_a_language_that_loses_over_a_fifth_is_one_line():
    counts = {("bho", 0, READ): 100, ("bho", 0, "language"): 21, ("bho", 0, "html"): 20}
    (line,) = _lines(counts, {"bho": 59})
    assert line.startswith("bho-en: 21% of 100 pairs dropped as language (ids 0, 1, 2; switch: ")
    assert "data.cleaning.language=false" in line
    assert not _lines(counts, {"bho": 59}, 0.3)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [("swapped", "are the columns exchanged?"), ("language", "is it this language's code?")],
)
def test_a_likely_mistake_is_asked_for_where_most_is_lost(reason, cause):
    counts = {("de", 0, READ): 5000, ("de", 0, reason): 3781}
    (line,) = _lines(counts, {"de": 377})
    assert line.startswith(f"de-en: 76% of 5000 pairs dropped as {reason}; ") and cause in line
    (line,) = _lines(counts | {("de", 0, reason): 2000}, {"de": 3000})
    assert cause not in line


def test_the_table_says_how_much_was_dropped_and_mostly_why():
    splits = {split: {"pairs": 7, "source_tokens": 9, "target_tokens": 9} for split in SPLITS}
    pairs = {
        "de-en": {**splits, "drops": {"language": 645, "swapped": 3781}},
        "fr-en": {**splits, "drops": {}},
    }
    head, _, german, french = counts_table(pairs).splitlines()
    assert head.split() == "pair language train dev test dropped most as".split()
    assert german.split() == "de-en German 7 7 7 4426 swapped".split()
    assert french.split() == "fr-en French 7 7 7 0".split()


def test_a_language_of_which_nothing_is_left_is_said_with_its_largest_loss():
    counts = {("sat", 0, READ): 100}
    counts |= {("sat", 0, reason): 100 // 7 for reason in ("html", "numbers", "empty", "copied")}
    (line,) = _lines(counts, {"sat": 0})
    assert "no pair is left" in line and "14% of 100" in line


def test_a_corpus_is_said_where_its_language_is_not():
    counts = {("de", 0, READ): 900, ("de", 1, READ): 100, ("de", 1, "swapped"): 90}
    (line,) = _lines(counts, {"de": 910})
    assert line.startswith("corpus 2 (tsv:b): 90% of 100 pairs dropped as swapped")
    assert str(1 << 40) in line
    counts["de", 0, READ] = 100  # now the language loses 45%
    (line,) = _lines(counts, {"de": 110})
    assert line.startswith("de-en: 45% of 200")


@pytest.mark.parametrize(
    ("reason", "switch"),
    [
        ("duplicate", "data.cleaning.duplicates=false"),
        ("near_duplicate", "data.cleaning.near_duplicates=false"),
        ("too_long", "max_characters"),
        ("row_length", "source_length"),
        ("held_out", "num_test"),
    ],
)
def test_the_switch_is_that_of_the_reason(reason, switch):
    (line,) = _lines({("de", 0, READ): 4, ("de", 0, reason): 1}, {"de": 3})
    assert switch in line


@pytest.mark.parametrize("reason", [*REASONS, "duplicate", "near_duplicate", "held_out"])
def test_every_switch_is_a_field_of_the_config(reason):
    (line,) = _lines({("de", 0, READ): 4, ("de", 0, reason): 1}, {"de": 3})
    for name in re.findall(r"data\.(?:cleaning\.)?(\w+)", line):
        assert hasattr(CleaningConfig(), name) or hasattr(DataConfig(), name)


def test_a_preparation_says_what_it_loses_and_may_be_told_to_refuse(tmp_path, capsys):
    config = write_made_up(tmp_path)
    english = english_sentences()
    good = [f"{translated(text, 'de')}\t{text}\n" for text in english[:200]]
    bad = [f"{text}\t{text.upper()}\n" for text in english[200:260]]
    (tmp_path / "de.tsv").write_text("".join([*good, *bad]), encoding="utf-8")
    write_recipe(tmp_path, [{"language": "de", "source": "tsv:de.tsv", "license": "CC0-1.0"}])
    prepare(config, tmp_path / "data")
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "dropped as" in each]
    assert line.startswith("de-en: 23% of 260 pairs dropped as copied (ids 200, 201, 202; ")
    assert "dropped as copied" in (tmp_path / "data" / "report.md").read_text(encoding="utf-8")
    strict = dataclasses.replace(config, max_drop_share=0.25)
    prepare(strict, tmp_path / "strict")
    strict = dataclasses.replace(config, max_drop_share=0.1)
    with pytest.raises(
        DataError, match="config.data.max_drop_share: found 0.1, but de-en: 23% of 260"
    ) as caught:
        prepare(strict, tmp_path / "stricter")
    assert "\n" not in str(caught.value)
