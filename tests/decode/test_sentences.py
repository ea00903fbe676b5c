"""Texts are split into sentences, of which none is lost, and put together again."""
# SPDX-License-Identifier: Apache-2.0

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from gshard_mt.config import Config
from gshard_mt.data.normalization import normalize
from gshard_mt.decode.sentences import Sentences, Splitter

PARAGRAPH = (
    "Dr. Meyer kam z. B. am 3. Oktober nach Berlin. „Gut!“, sagte er. "
    "Siehe https://a.example/x?y=1. Das kostet 3.5 Euro."
)
PARAGRAPH_SENTENCES = [
    "Dr. Meyer kam z. B. am 3. Oktober nach Berlin.",
    "„Gut!“, sagte er.",
    "Siehe https://a.example/x?y=1.",
    "Das kostet 3.5 Euro.",
]


class Words:
    """A tokenizer whose subwords are up to four characters of a word."""

    def encode_source(self, lines: list[str]) -> list[list[int]]:
        return [[4] * sum(-(-len(word) // 4) for word in line.split()) for line in lines]


def splitter(split: str = "long", row: int = 12, longest: int = 24) -> Splitter:
    config = Config()
    config.data.source_length = row + 1  # with the end of the sentence
    config.decode.split, config.decode.max_source_length = split, longest + 1
    return Splitter(config, cast(Any, Words()))


def split(text: str, language: str | None = "de", **how: Any) -> Sentences:
    return splitter(**how).split([text], [language])[0]


def visible(text: str) -> str:
    return "".join(text.replace("\u200d", "").split())


def test_only_a_line_that_is_longer_than_a_row_is_split():
    short = "Ja. Nein. Doch!"
    assert split(short).parts == [short]
    assert split(short, split="always").parts == ["Ja.", "Nein.", "Doch!"]
    assert split(PARAGRAPH).parts == PARAGRAPH_SENTENCES
    assert split(PARAGRAPH, split="never").parts == [PARAGRAPH]
    assert not split(PARAGRAPH).is_in_pieces


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("zh-Hans", ["今天天气很好！", "你呢？", "我很好，谢谢你。"]),
        ("ja", ["行きましょう。", "そうですか？", "はい。"]),
        ("hi", ["यह एक वाक्य है।", "यह दूसरा वाक्य है।"]),
        ("ar", ["هذه جملة قصيرة.", "وهذه جملة أخرى؟", "نعم!"]),
        ("el", ["Τι κάνεις;", "Καλά είμαι."]),
        ("ru", ["Это т. н. пример.", "Он вышел в 10.30 утра!"]),
        ("en", ["1. The first item.", "2. The second one.", '"Stop!" he said.']),
        (None, ["Das ist ein Satz, den niemand kennt.", "Und das ist noch einer davon."]),
    ],
)
def test_sentences_end_where_their_script_ends_them(language, sentences):
    joiner = "" if language in ("zh-Hans", "ja") else " "
    found = split(joiner.join(sentences), language, split="always")
    assert found.parts == sentences
    assert found.join(found.parts) == " ".join(sentences)


def test_white_space_and_paragraphs_survive_where_they_are_wanted():
    text = "  Erster Satz hier.  Zweiter Satz hier.\n\n\t- Ein Punkt der Liste.\r\n\n Ende. \n"
    found = split(text, split="always")
    assert found.parts == [
        "Erster Satz hier.",
        "Zweiter Satz hier.",
        "- Ein Punkt der Liste.",
        "Ende.",
    ]
    assert found.join(found.parts, keeps_layout=True) == text
    assert found.join(["a", "b", "", "d"], keeps_layout=True) == "  a  b\n\n\t\r\n\n d \n"
    assert found.join(["a", "b", "", "d"]) == "a b d"
    for blank in ("", " \t", "\n\n", "\u200b\n"):
        nothing = split(blank, split="always")
        assert nothing.parts == [] and nothing.join([], keeps_layout=True) == blank


def test_quotations_are_split_where_they_are_too_long_for_a_row():
    sentences = [
        'Er sagte: "Ich komme heute.',
        "Du bleibst lieber hier.",
        'Wir gehen bald."',
        "So ging er.",
    ]
    assert split(" ".join(sentences), row=9).parts == sentences
    assert split(" ".join(sentences), row=20).parts == [" ".join(sentences[:3]), sentences[3]]
    sentences = [
        "Μπορεί να 'χει τα ελαττώματά του.",
        "Δε χρειάζομαι χρόνο.",
        "Είμαι ομορφότερος από σας.",
    ]
    assert split(" ".join(sentences), "el").parts == sentences


def test_line_breaks_end_a_sentence_however_short():
    assert split("eine Zeile\nnoch eine").parts == ["eine Zeile", "noch eine"]


def test_a_sentence_that_is_too_long_is_cut_at_the_best_place():
    words = [f"wort{number}" for number in range(30)]
    words[9] += ","
    words[16] += ";"
    found = split(" ".join(words), longest=24, row=12)
    assert found.is_in_pieces
    assert found.parts[0].endswith(",") and found.parts[1].endswith(";")
    counts = [len(ids) for ids in Words().encode_source(found.parts)]
    assert max(counts) <= 24 and " ".join(found.parts) == " ".join(words)
    # Without marks it is cut at a space; without spaces anywhere, but not before an accent.
    assert split(" ".join(["wort"] * 60)).parts == [" ".join(["wort"] * n) for n in (24, 24, 12)]
    accents = "e\u0301x" * 100
    pieces = split(accents, language="en").parts
    assert len(pieces) > 1 and "".join(pieces) == normalize(accents)


def test_a_model_with_shorter_sentences_than_rows_loses_nothing():
    text = " ".join(f"wort{number}" for number in range(11))  # fits a row
    found = split(text, row=40, longest=10)
    assert " ".join(found.parts) == text and found.is_in_pieces


@pytest.mark.parametrize("mode", ["long", "always"])
def test_nothing_is_lost_of_any_text(mode):
    rng = random.Random(1)
    alphabet = "aB. ,!?\n\t\u3000。，й́\u200d😀ก1(„“)—-;\u200b\r'"
    for size in (0, 1, 7, 60, 400):
        for _ in range(40):
            text = "".join(rng.choices(alphabet, k=size))
            found = split(text, rng.choice(["de", "zh", None]), split=mode, row=5, longest=7)
            assert all(found.parts) and found.parts == [normalize(part) for part in found.parts]
            assert visible("".join(found.parts)) == visible(normalize(text))
            assert len(found.spaces) == len(found.parts) + 1


def test_threads_may_split_at_the_same_time():
    def text(seed: int) -> str:
        rng = random.Random(seed)
        words = ["".join(rng.choices("abcdefghijklmnop", k=8)) for _ in range(60)]
        return ". ".join(words).title()

    one, texts = splitter("always"), list(map(text, range(300)))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda each: one.split([each], [None])[0], texts))
    assert found == one.split(texts, [None] * len(texts))


def test_a_very_long_line_is_split_whole():
    line = " ".join(f"Satz {number} hat ein paar Wörter." for number in range(6000))
    assert len(line) > 150_000
    assert split(line).parts == [f"Satz {number} hat ein paar Wörter." for number in range(6000)]
    found = split("wort" * 50_000)
    assert "".join(found.parts) == "wort" * 50_000 and found.is_in_pieces
