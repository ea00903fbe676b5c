"""BLEU, chrF and their signatures from sacreBLEU, with intervals and tests against a baseline."""
# SPDX-License-Identifier: Apache-2.0

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest

from gshard_mt.documents import in_one_line
from gshard_mt.errors import ConfigError, suggest
from gshard_mt.evaluate.comet import open_comet

logging.getLogger("sacrebleu").setLevel(logging.WARNING)  # it logs every paired test

NUM_RESAMPLES = 1000
SEED = 12345  # sacreBLEU's own
EXTRA_METRICS: dict[str, Callable[[], Any]] = {
    "chrf++": lambda: CHRF(word_order=2),
    "ter": TER,  # lower is better
    "spbleu": lambda: BLEU(tokenize="flores200", force=True),
}
SIGNIFICANCE = 0.05  # a difference with a lower p-value is significant

Lines = Mapping[str, Sequence[str]]  # sentences by language pair

# Scores of NUM_RESAMPLES test sets drawn from the sentences, or None if they are not known.
Resampled = np.ndarray | None


class Metric(NamedTuple):
    """A further metric: a function of sources, hypotheses and references, and its signature."""

    measure: Callable[[Lines, Lines, Lines], dict[str, float]]  # each by language pair
    signature: str


@dataclass(frozen=True, slots=True)
class Score:
    """A system's quality on one test set; BLEU and chrF run from 0 to 100."""

    sentences: int
    bleu: float
    bleu_low: float  # the 95% interval
    bleu_high: float
    chrf: float
    extra: Mapping[str, float] = field(default_factory=dict)  # by name of the metric
    resampled: Resampled = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system's BLEU compared with another system's on the same sentences."""

    baseline_bleu: float
    delta_bleu: float  # above 0: better than the baseline
    p_value: float  # that chance explains the difference, by paired bootstrap
    resampled: Resampled = None  # the baseline's BLEU on the test sets of Score

    @property
    def is_significant(self) -> bool:
        """At the usual level; for equal scores sacreBLEU's p-value is low and means nothing."""
        return self.p_value < SIGNIFICANCE and self.delta_bleu != 0


def compare(
    hypotheses: Sequence[str], baseline: Sequence[str], references: Sequence[str]
) -> Comparison:
    """Compares two systems by sacreBLEU's own paired bootstrap (Koehn 2004).

    The p-value is that of `sacrebleu --paired-bs` with its default settings; SACREBLEU_SEED sets
    the seed. Raises ValueError for lists of different length.
    """
    if not len(hypotheses) == len(baseline) == len(references) > 0:
        sizes = f"{len(hypotheses)} and {len(baseline)} hypotheses"
        raise ValueError(f"{sizes}, {len(references)} references")
    test = PairedTest(
        [("baseline", baseline), ("system", hypotheses)],
        {"BLEU": BLEU(force=True)},
        [references],
        test_type="bs",
        n_samples=NUM_RESAMPLES,
    )
    _, results = test()
    first, second = results["BLEU"]
    assert not isinstance(first, str) and not isinstance(second, str) and second.p_value is not None
    delta, resampled = second.score - first.score, resample(baseline, references)
    return Comparison(first.score, delta, second.p_value, resampled)


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Scores English hypotheses, one for each reference, cased and untokenized.

    BLEU is that of the `sacrebleu` command with its default settings (tokenizer 13a). Raises
    ValueError for no sentences and for lists of different length.
    """
    resampled = resample(hypotheses, references)
    bleu = corpus_bleu(hypotheses, references)
    low, high = interval(bleu, resampled)
    return Score(
        sentences=len(hypotheses),
        bleu=bleu,
        bleu_low=low,
        bleu_high=high,
        chrf=CHRF().corpus_score(hypotheses, [references]).score,
        resampled=resampled,
    )


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Returns the same BLEU as `score`, without its interval."""
    return BLEU(force=True).corpus_score(hypotheses, [references]).score  # force: no warning


def interval(value: float, resampled: np.ndarray, least: float = 0.0) -> tuple[float, float]:
    """Returns a score's 95% interval: the spread of its resampled values, centered on the score.

    Small resampled test sets score lower on average than the set they are drawn from, since BLEU
    is concave where 4-grams are few. Averaging over languages removes noise but not this bias, so
    the mean of the resampled values is subtracted. The ends are clipped to `least` and 100.
    """
    ends = value + np.quantile(resampled, [0.025, 0.975]) - np.mean(resampled)
    low, high = np.clip(ends, least, 100.0)
    return float(low), float(high)


def resample(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns the BLEU of NUM_RESAMPLES test sets drawn from the sentences, with replacement.

    Every system gets the same draws, those of sacreBLEU's own bootstrap, so the difference of two
    results is that of paired sets.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references")
    bleu = BLEU(force=True)  # force only silences a warning
    pairs = zip(hypotheses, references, strict=True)
    sentences = [bleu.corpus_score([own], [[expected]]) for own, expected in pairs]
    # Both lengths, 4 counts of matching n-grams and 4 of all: these add up over sentences.
    counts = [[each.sys_len, each.ref_len, *each.counts, *each.totals] for each in sentences]
    size = len(counts)
    draws = np.random.default_rng(SEED).choice(size, size=(NUM_RESAMPLES, size), replace=True)
    times = np.stack([np.bincount(draw, minlength=size) for draw in draws])
    return np.array([_bleu_of_counts(bleu, total) for total in (times @ counts).tolist()])


def extra_metrics(values: Sequence[str]) -> dict[str, Metric]:
    """Returns metrics by name, given those of EXTRA_METRICS, `comet` or `comet:MODEL`.

    Raises ConfigError for an unknown name, or if its program or tokenizer is not available.
    """
    found: dict[str, Metric] = {}
    for value in values:
        name, _, model = value.partition(":")
        if name in found:
            raise ConfigError(f"--metrics: found {name} twice; accepted: each once")
        if name == "comet":
            found[name] = _comet(model)
        elif value in EXTRA_METRICS:
            found[name] = _sacrebleu(value)
        else:
            raise ConfigError(
                f"--metrics: found {value!r}{suggest(value, [*EXTRA_METRICS, 'comet'])}"
            )
    return found


def _sacrebleu(name: str) -> Metric:
    try:
        metric = EXTRA_METRICS[name]()
    except (OSError, RuntimeError, ImportError) as error:
        raise ConfigError(
            f"--metrics: {name} can't be used ({in_one_line(error)}); sacreBLEU downloads its "
            "tokenizer once"
        ) from None

    def measure(_, hypotheses: Lines, references: Lines) -> dict[str, float]:
        return {
            pair: metric.corpus_score(lines, [references[pair]]).score
            for pair, lines in hypotheses.items()
        }

    return Metric(measure, _signature(metric))


def _comet(model: str) -> Metric:
    comet = open_comet(model)

    def measure(*sides: Lines) -> dict[str, float]:
        pairs = list(sides[0])
        lines = iter(
            comet.score(*([line for pair in pairs for line in side[pair]] for side in sides))
        )
        sentences = {pair: [next(lines) for _ in sides[0][pair]] for pair in pairs}
        return {pair: 100 * sum(own) / len(own) for pair, own in sentences.items()}

    return Metric(measure, comet.signature)


def sentence_chrf(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """Returns each sentence's own chrF, as `sacrebleu -m chrf --sentence-level` prints it."""
    chrf = CHRF()
    pairs = zip(hypotheses, references, strict=True)
    return [chrf.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]


def signatures() -> dict[str, str]:
    """Returns sacreBLEU's signature of each metric, as its command prints it."""
    return {"bleu": _signature(BLEU()), "chrf": _signature(CHRF())}


def _signature(metric: Any) -> str:
    metric.corpus_score(["a"], [["a"]])  # a signature counts the references it has seen
    return metric.get_signature().format()


def _bleu_of_counts(bleu: BLEU, total: list[int]) -> float:
    """Returns the BLEU of counts, smoothed as `bleu` does it: not 0 without matching 4-grams."""
    return BLEU.compute_bleu(
        sys_len=total[0],
        ref_len=total[1],
        correct=total[2:6],
        total=total[6:10],
        smooth_method=bleu.smooth_method,
        smooth_value=bleu.smooth_value,
    ).score
