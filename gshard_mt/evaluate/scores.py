"""BLEU and chrF with sacreBLEU's own signatures, how sure they are, and beside a baseline's."""
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

logging.getLogger("sacrebleu").setLevel(logging.WARNING)  # it tells of every paired test

NUM_RESAMPLES = 1000
SEED = 12345  # sacreBLEU's own
MORE_METRICS: dict[str, Callable[[], Any]] = {
    "chrf++": lambda: CHRF(word_order=2),
    "ter": TER,  # lower is better
    "spbleu": lambda: BLEU(tokenize="flores200", force=True),
    "comet": lambda: None,  # the package's own
}
LEVEL = 0.05  # a difference with a lower p-value is significant

# Scores of NUM_RESAMPLES test sets drawn from the sentences, where they are known.
Resampled = np.ndarray | None


class Metric(NamedTuple):
    """A further metric: what it gives sources, hypotheses and references, and its signature."""

    measure: Callable[[Sequence[str], Sequence[str], Sequence[str]], float]
    signature: str


@dataclass(frozen=True, slots=True)
class Score:
    """A system's quality on one test set; BLEU and chrF run from 0 to 100."""

    sentences: int
    bleu: float
    bleu_low: float  # the ends of its 95 % interval
    bleu_high: float
    chrf: float
    more: Mapping[str, float] = field(default_factory=dict)  # of MORE_METRICS that were asked for
    resampled: Resampled = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system's BLEU beside another one's on the same sentences."""

    baseline_bleu: float
    delta_bleu: float  # above 0: better than the baseline
    p_value: float  # of a difference like this by chance, by paired bootstrap
    resampled: Resampled = None  # the baseline's BLEU on the test sets of Score

    @property
    def is_significant(self) -> bool:
        """At the usual level. For equal scores sacreBLEU's p-value is low, and means nothing."""
        return self.p_value < LEVEL and self.delta_bleu != 0


def compare(
    hypotheses: Sequence[str], baseline: Sequence[str], references: Sequence[str]
) -> Comparison:
    """Compares two systems by sacreBLEU's own paired bootstrap (Koehn 2004).

    The p-value is that of `sacrebleu --paired-bs` with its default settings and, as there, of the
    seed in SACREBLEU_SEED. Raises ValueError for lists of different length.
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

    The BLEU is that of the `sacrebleu` command with its default settings (tokenizer 13a). Raises
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
    """Returns the BLEU of `score` alone."""
    return BLEU(force=True).corpus_score(hypotheses, [references]).score  # force: no warning


def interval(figure: float, resampled: np.ndarray, least: float = 0.0) -> tuple[float, float]:
    """Returns the ends of a figure's 95 % interval: the spread of its resampled values, around it.

    Drawn test sets of few sentences score lower on average than the whole they are drawn from, for
    BLEU bends down where 4-grams are few. Over many languages that adds up, chance doesn't; so the
    draws' own mean is taken off. Nothing is below `least` or above 100.
    """
    ends = figure + np.quantile(resampled, [0.025, 0.975]) - np.mean(resampled)
    low, high = np.clip(ends, least, 100.0)
    return float(low), float(high)


def resample(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns the BLEU of NUM_RESAMPLES test sets drawn from the sentences, with replacement.

    The draws are the same for every system: the difference of two is that of paired test sets.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references")
    bleu = BLEU(force=True)  # force only silences a warning
    pairs = zip(hypotheses, references, strict=True)
    return _resampled_bleu(bleu, np.array([_bleu_counts(bleu, *pair) for pair in pairs]))


def more_metric(name: str) -> Metric:
    """Returns a further metric of MORE_METRICS, of sources, hypotheses and references.

    Raises ConfigError for a name that is not there, or whose package or tokenizer is not.
    """
    if name not in MORE_METRICS:
        raise ConfigError(f"--metrics: found {name!r}{suggest(name, MORE_METRICS)}")
    if name == "comet":
        return _comet()
    try:
        metric = MORE_METRICS[name]()
    except (OSError, RuntimeError, ImportError) as error:
        raise ConfigError(
            f"--metrics: {name} can't be used ({in_one_line(error)}); sacreBLEU downloads its "
            "tokenizer once"
        ) from None

    def measure(_, hypotheses, references) -> float:
        return metric.corpus_score(hypotheses, [references]).score

    return Metric(measure, _signature(metric))


def _comet() -> Metric:
    try:
        from comet import download_model, load_from_checkpoint  # type: ignore[import-not-found]
    except ImportError:
        raise ConfigError("--metrics: comet is not there; pip install unbabel-comet") from None
    name = "Unbabel/wmt22-comet-da"
    model = load_from_checkpoint(download_model(name))

    def measure(sources, hypotheses, references) -> float:
        lines = zip(sources, hypotheses, references, strict=True)
        data = [dict(zip(("src", "mt", "ref"), line, strict=True)) for line in lines]
        return 100 * float(model.predict(data, gpus=0, progress_bar=False).system_score)

    return Metric(measure, name)


def sentence_chrf(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """Returns each sentence's own chrF, which `sacrebleu -m chrf --sentence-level` prints."""
    chrf = CHRF()
    pairs = zip(hypotheses, references, strict=True)
    return [chrf.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]


def signatures() -> dict[str, str]:
    """Returns sacreBLEU's signature of each metric, as its command prints them."""
    return {"bleu": _signature(BLEU()), "chrf": _signature(CHRF())}


def _signature(metric: Any) -> str:
    metric.corpus_score(["a"], [["a"]])  # a signature counts the references it has seen
    return metric.get_signature().format()


def _bleu_counts(bleu: BLEU, hypothesis: str, reference: str) -> list[int]:
    """Returns a sentence's two lengths, 4 counts of shared n-grams and 4 of all; they add up."""
    found = bleu.corpus_score([hypothesis], [[reference]])
    return [found.sys_len, found.ref_len, *found.counts, *found.totals]


def _resampled_bleu(bleu: BLEU, counts: np.ndarray) -> np.ndarray:
    """Returns the BLEU of test sets drawn from these sentences with replacement.

    The draws are those of sacreBLEU's own bootstrap; as sums of counts they are one matrix product.
    """
    size = len(counts)
    draws = np.random.default_rng(SEED).choice(size, size=(NUM_RESAMPLES, size), replace=True)
    times = np.stack([np.bincount(draw, minlength=size) for draw in draws])
    return np.array([_bleu_of_counts(bleu, total) for total in (times @ counts).tolist()])


def _bleu_of_counts(bleu: BLEU, total: list[int]) -> float:
    """Returns the BLEU of counts, smoothed as `bleu` does it: without a 4-gram it is not 0."""
    return BLEU.compute_bleu(
        sys_len=total[0],
        ref_len=total[1],
        correct=total[2:6],
        total=total[6:10],
        smooth_method=bleu.smooth_method,
        smooth_value=bleu.smooth_value,
    ).score
