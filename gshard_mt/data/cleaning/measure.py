"""Measure: calibrates the script and language filters on a sample of one language of a corpus."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.calibration import Calibration, rivals_in, uncalibrated
from gshard_mt.data.cleaning.characters import LETTER, OWN, scripts_of_letters
from gshard_mt.data.cleaning.confusable_languages import label_of
from gshard_mt.data.cleaning.english import is_surely_english
from gshard_mt.data.cleaning.evidence import Evidence, EvidenceTexts
from gshard_mt.data.cleaning.identification import (
    MIN_LETTERS,
    contradictions,
    guess,
)
from gshard_mt.data.cleaning.language_filters import FEW_LETTERS, LEAST_OF_EVIDENCE, is_in
from gshard_mt.data.cleaning.lines import normalize_lines, read_lines
from gshard_mt.data.cleaning.pairs import Side, make_side
from gshard_mt.data.cleaning.recognised_languages import (
    RECOGNISED_LABELS,
    is_partly_recognised,
    is_recognised,
)
from gshard_mt.languages import base_language

SAMPLE_PAIRS = 1000  # of one language in one corpus
_ENOUGH_LINES = 60  # fewer don't show what a language looks like
_IN_BULK = 0.1  # share of the lines in a script that makes it one of the language
_MOST = 0.5
_CONFIDENT = 0.8  # probability of a label, and share of a label's lines that have it
_FOREIGN = 0.6  # share of a script's lines that are confidently in other languages
# Share of good lines that may be dropped because of unsure answers, and of confident ones.
_GOOD_LOSS = 0.005
_FEW_RIVALS = 6  # languages that the model knows in a script, of which its answer tells little
# Share of the lines that are taken for one other language: of all of them but for a third of dirt.
_CONSISTENT = 0.66
_UNSURE = 0.25  # share of the lines taken for another language that may be unsure
_FEW_UNSURE = 0.03  # share of lines taken for another language, but not confidently
_SEED = 0.3  # share of the lines that the first model of a corpus is made of
_SAME = 0.1  # nats a character: texts that differ by less are in one language
_REFERENCE = 0.01  # share of the lines taken for a language whose own corpus is then compared
_ROUNDS = 2


class Measurement(NamedTuple):
    """A calibration without its evidence, what that is made of, and what to tell the user."""

    calibration: Calibration
    texts: EvidenceTexts | None
    notes: list[str]


class _Lines(NamedTuple):
    """A sample's lines in the language's scripts, with the language that each is taken for."""

    texts: list[str]
    is_long: np.ndarray  # the others are not identified
    label: np.ndarray  # of str; "" if it is not in another language
    probability: np.ndarray  # of the label

    @property
    def is_confident(self) -> np.ndarray:
        return self.probability >= _CONFIDENT

    def share(self, is_it: np.ndarray) -> float:
        """Returns the share of the long lines for which `is_it`."""
        return float(np.sum(is_it & self.is_long)) / max(1, int(np.sum(self.is_long)))

    def without(self, is_left_out: np.ndarray) -> list[str]:
        return [text for text, out in zip(self.texts, is_left_out, strict=True) if not out]


def calibrate(
    tag: str,
    source: list[str],
    english: list[str],
    others: Mapping[str, list[str]],
    is_script_only: bool = False,
) -> Measurement:
    """Calibrates the filters, or that of scripts only, on sample pairs of a tag.

    `others` are sample lines of the recipe's other languages, by label.
    """
    named, none = uncalibrated(tag), frozenset()
    label = label_of(base_language(tag)) or ""
    side = make_side(normalize_lines(read_lines(source, none), none), none)
    scripts, main, notes = _find_scripts(named, label, side)
    calibration = Calibration(scripts, named.own, rivals_in(scripts, named.own))
    if is_script_only:
        return Measurement(calibration, None, notes)
    lines = _identify(make_side(read_lines(side.texts, scripts), scripts), calibration)
    is_english = lines.label == "en"
    if _is_trusted(label, main, lines):
        texts = EvidenceTexts(lines.without(is_english), {"en": english})
        has_evidence = "en" in calibration.rivals and len(texts.own) >= _ENOUGH_LINES
        return Measurement(calibration, texts if has_evidence else None, notes)
    notes = notes + _why_doubtful(lines)
    for name in _consistent(lines, len(calibration.rivals), others):
        calibration = calibration._replace(rivals=calibration.rivals - {name})
        lines = lines._replace(label=np.where(lines.label == name, "", lines.label))
    if np.sum(lines.is_long) >= _ENOUGH_LINES:
        calibration, texts = _weigh(calibration, lines, english, others)
    else:
        is_seldom = lines.share(is_english) <= 1 - _CONFIDENT
        calibration = calibration._replace(rivals=frozenset({"en"} if is_seldom else ()))
        texts = None
    return Measurement(calibration, texts, notes)


def _consistent(lines: _Lines, num_rivals: int, others: Mapping[str, list[str]]) -> list[str]:
    """Returns the language that nearly all lines are taken for, if none of its text is at hand.

    Where the model knows few languages in the script, all that lines are taken for.
    """
    counts = Counter(lines.label[lines.label != ""].tolist())
    if num_rivals <= _FEW_RIVALS:
        return [name for name in sorted(counts) if name not in others]
    return [
        name
        for name in sorted(counts)
        if name != "en" and name not in others
        if lines.share(lines.label == name) >= _CONSISTENT
    ]


def _is_trusted(label: str, script: str, lines: _Lines) -> bool:
    """Tells whether identification is right about the lines, also where it contradicts the name."""
    is_unsure = (lines.label != "") & (lines.label != "en") & ~lines.is_confident
    if is_recognised(label, script):
        # Text that the model knows less well than Tatoeba's is taken for many languages, unsurely.
        few = _UNSURE * np.sum(lines.label != "")
        return lines.share(is_unsure) <= _FEW_UNSURE or bool(np.sum(is_unsure) <= few)
    if not is_partly_recognised(label, script) or not lines.label.any():
        return False
    # A whole file in another language, which the model is sure of.
    counts = Counter(lines.label[lines.is_confident].tolist())
    return max(counts.values(), default=0) >= _FOREIGN * np.sum(lines.is_long)


def _find_scripts(
    named: Calibration, label: str, side: Side
) -> tuple[frozenset[str], str, list[str]]:
    """Returns the scripts of a language in its sample, its main one, and what to tell the user.

    They are those of the language, and others that much of the text is in and that isn't
    confidently in a language of that script: transliterated text, or an alphabet that CLDR lacks.
    """
    script = _script_of_lines(side)
    counts = Counter(script)
    del counts[""]
    total = sum(counts.values())
    if not total:
        return named.scripts, "", []
    main = counts.most_common(1)[0][0]
    is_named = sum(counts[each] for each in named.scripts) >= _MOST * total
    accepted = []
    for each, number in counts.most_common():
        if each not in named.scripts and number >= _IN_BULK * total:
            texts = [side.words[row] for row in np.flatnonzero(script == each)]
            is_foreign = _is_foreign(texts, each, named.own)
            # A language that is well recognised in its own script is believed to be elsewhere.
            is_main = each == main and not is_named and label not in RECOGNISED_LABELS
            if not is_foreign or (is_main and not _is_english(texts)):
                accepted.append(each)
    if not accepted:
        return named.scripts, main, []
    shares = ", ".join(f"{each} {counts[each] / total:.0%}" for each in accepted)
    if not named.scripts:
        return frozenset(accepted), main, []
    note = f"text in {shares} is taken for the language's own (data.cleaning.script)"
    if is_named:
        return named.scripts | frozenset(accepted), main, [note]
    in_bulk = {each for each in named.scripts if counts[each] >= _IN_BULK * total}
    return frozenset(accepted) | in_bulk, main, [note]


def _script_of_lines(side: Side) -> np.ndarray:
    """Returns the script of most letters of each line, "" for a line without letters."""
    codes = side.word_lines.codes
    distinct, place = np.unique(codes, return_inverse=True)
    script_of = scripts_of_letters("".join(map(chr, distinct)))
    names = sorted(set(script_of.values()))
    most = np.zeros(len(side.words), np.int64)
    found = np.full(len(side.words), "", object)
    for name in names:
        is_it = np.array([script_of.get(chr(code)) == name for code in distinct], bool)[place]
        number = np.add.reduceat(is_it, side.word_lines.starts, dtype=np.int64)
        found[number > most] = name
        most = np.maximum(most, number)
    return found


def _is_foreign(texts: list[str], script: str, own: frozenset[str]) -> bool:
    """Tells whether most lines are confidently in languages that are recognised in the script."""
    texts = [text for text in texts if len(text) >= MIN_LETTERS] or texts
    number = 0
    for text, label, probability in zip(texts, *guess(texts), strict=True):
        is_known = label not in own and is_recognised(label, script)
        number += (is_known and probability >= _CONFIDENT) or is_surely_english(text)
    return number >= _FOREIGN * len(texts)


def _is_english(texts: list[str]) -> bool:
    return sum(map(is_surely_english, texts)) >= _MOST * len(texts)


def _identify(side: Side, known: Calibration) -> _Lines:
    letters = side.word_lines.weigh(LETTER)
    is_own = is_in(OWN, side.word_lines) if known.scripts else np.ones(len(letters), bool)
    rows = np.flatnonzero(is_own & (letters >= FEW_LETTERS))
    is_long = letters[rows] >= MIN_LETTERS
    texts = [side.words[row] for row in rows]
    label = np.full(len(rows), "", object)
    long = [text for text, is_it in zip(texts, is_long, strict=True) if is_it]
    label[is_long] = contradictions(
        long, letters[rows][is_long].tolist(), known.own, known.rivals, LEAST_OF_EVIDENCE
    )
    probability = np.where(label != "", guess(texts).probabilities, 0.0)
    return _Lines(texts, is_long, label, probability)


def _weigh(
    known: Calibration, lines: _Lines, english: list[str], samples: Mapping[str, list[str]]
) -> tuple[Calibration, EvidenceTexts]:
    """Returns the calibration where identification isn't trusted.

    The model of the corpus is first made of lines that most likely are its own, then also of those
    that are like them.
    """
    others = {"en": english}
    for label in sorted(samples):
        if label != "en" and lines.share(lines.label == label) >= _REFERENCE:
            others[label] = samples[label]
    is_taken = lines.label != ""
    names = lines.label[is_taken].tolist()
    some = [text for text, taken in zip(lines.texts, is_taken, strict=True) if taken]
    is_sure = guess(some).is_confident
    is_weighed = ~np.isin(np.array(names, str), list(others))
    is_other = ~_seed(lines)
    for _ in range(_ROUNDS):
        evidence = Evidence(EvidenceTexts(lines.without(is_other), others))
        own, likeness = evidence.likeness(lines.without(is_other)), evidence.likeness(some)
        limits = [
            _limit(own, likeness[is_weighed & (is_sure == kind)], int(np.sum(lines.is_long)))
            for kind in (False, True)
        ]
        certain = frozenset(
            label
            for label in others
            if lines.share(lines.label == label) >= _MOST
            and _is_same(evidence, label, lines.without(lines.label != label))
        )
        is_other = is_taken.copy()
        is_other[is_taken] = evidence.is_other(
            some, names, np.where(is_sure, limits[1], limits[0]), certain
        )
    known = known._replace(is_trusted=False, limits=tuple(limits), certain=certain)
    return known, EvidenceTexts(lines.without(is_other), dict(others))


def _limit(own: np.ndarray, taken: np.ndarray, total: int) -> float:
    """Returns the likeness below which lines taken for another language are dropped.

    `own` and `taken` are likenesses of the corpus's own lines and of those taken for another
    language. Half of the good lines among these are above the median, and hardly any bad one is:
    this tells how many good ones there are, and so how many fall below a limit.
    """
    if not len(own):
        return float("-inf")
    num_good = 2 * (2 + int(np.sum(taken > np.median(own))))
    share = min(_MOST, _GOOD_LOSS * total / num_good)
    return float(np.quantile(own, share))


def _seed(lines: _Lines) -> np.ndarray:
    """Tells for each line whether it is one of those that most likely are in the language.

    First those not taken for another language, then by label: those that are not confidently
    taken for it come before others, and large groups before small ones.
    """
    counts = Counter(lines.label[lines.is_long].tolist())
    confident = Counter(lines.label[lines.is_confident].tolist())
    is_sure = {label: confident[label] >= _CONFIDENT * counts[label] for label in counts if label}
    order = sorted(is_sure, key=lambda label: (is_sure[label], -counts[label], label))
    chosen = {""}
    for label in order:
        if sum(counts[each] for each in chosen) >= _SEED * sum(counts.values()):
            break
        chosen.add(label)
    return np.array([label in chosen for label in lines.label], bool)


def _is_same(evidence: Evidence, label: str, texts: list[str]) -> bool:
    """Tells whether the lines are as likely in another language's text as in the corpus."""
    lengths = np.array([len(text) + 1 for text in texts])
    return bool(np.median(evidence.advantage(texts, label) / lengths) < _SAME)


def _why_doubtful(lines: _Lines) -> list[str]:
    counts = Counter(lines.label[lines.label != ""].tolist())
    number = int(np.sum(lines.is_long))
    if not counts:
        return []
    share = sum(counts.values()) / number
    labels = ", ".join(f"{name} {count / number:.0%}" for name, count in counts.most_common(3))
    return [
        f"identification does not know the language and takes {share:.0%} of its lines for others "
        f"({labels}): of these, only lines unlike the rest are dropped (data.cleaning.language)"
    ]
