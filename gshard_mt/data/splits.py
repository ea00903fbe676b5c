"""Clean splits: pairs read, cleaned, without duplicates, held out, with every drop counted."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gshard_mt.config import DataConfig
from gshard_mt.data.cleaning import normalize, why_drop
from gshard_mt.data.corpora.entry import SPLITS, Pair
from gshard_mt.data.dedup import overlap_key, overlap_keys
from gshard_mt.data.held_out import Sentences, choose_held_out, take_held_out
from gshard_mt.languages import merge_locales

_NUM_SAMPLES = 3


@dataclass
class Drops:
    """How many pairs of a language were dropped for which reason, and the first few of them."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    samples: dict[tuple[str, str], list[Sentences]] = field(default_factory=dict)

    def add(self, language: str, reason: str, pair: Sentences) -> None:
        self.counts[language][reason] += 1
        samples = self.samples.setdefault((language, reason), [])
        if len(samples) < _NUM_SAMPLES:
            samples.append(pair)


Splits = dict[str, list[Sentences]]  # split -> pairs, of one language


def clean_pairs(
    pairs: Iterable[tuple[str, Pair]], max_characters: int, drops: Drops
) -> dict[str, Splits]:
    """Returns, by language, the normalized pairs of each split; training without duplicates.

    `pairs` are (split, Pair). Ready-made dev and test pairs are scored as they are: only
    those with an empty side go.
    """
    read: dict[tuple[str, str], list[Sentences]] = defaultdict(list)
    for split, pair in pairs:
        read[pair.language, split].append((pair.source, pair.english))
    languages = merge_locales(sorted({tag for tag, _ in read}))
    cleaned: dict[str, Splits] = {}
    for (tag, split), sentences in sorted(read.items()):
        language = languages[tag]
        splits = cleaned.setdefault(language, {name: [] for name in SPLITS})
        seen = set(splits["train"]) if split == "train" else set()
        for raw in sentences:
            pair = normalize(raw[0]), normalize(raw[1])
            if split != "train":
                reason = None if all(pair) else "empty"
            else:
                reason = why_drop(*pair, max_characters)
                reason = "duplicate" if reason is None and pair in seen else reason
                seen.add(pair)
            if reason:
                drops.add(language, reason, pair)
            else:
                splits[split].append(pair)
    return dict(sorted(cleaned.items()))


def hold_out(languages: dict[str, Splits], config: DataConfig, drops: Drops) -> dict[str, Splits]:
    """Returns the splits with dev and test where a language had none, and none of it in training.

    No sentence of any language's dev or test is on either side of a training pair, whatever its
    case and punctuation.
    """
    num_wanted = {"test": config.num_test, "dev": config.num_dev}
    wanted = {
        language: {split: num for split, num in num_wanted.items() if not splits[split]}
        for language, splits in languages.items()
    }
    given = {
        split: {overlap_key(pair[1]) for splits in languages.values() for pair in splits[split]}
        for split in num_wanted
    }
    train = {language: splits["train"] for language, splits in languages.items()}
    held_out = choose_held_out(train, wanted, given, config.seed)
    result: dict[str, Splits] = {}
    for language, splits in languages.items():
        result[language] = dict(splits)
        for split in wanted[language]:
            result[language][split] = take_held_out(
                splits["train"], held_out.keys[split], num_wanted[split], config.seed
            )
    keys = held_out.keys["test"] | held_out.keys["dev"]
    for splits in result.values():
        keys |= overlap_keys(splits["dev"]) | overlap_keys(splits["test"])
    for language, splits in result.items():
        splits["train"] = _without(splits, keys, language, drops)
    return result


def _without(splits: Splits, keys: set[str], language: str, drops: Drops) -> list[Sentences]:
    is_held_out = {*splits["dev"], *splits["test"]}
    kept: list[Sentences] = []
    for pair in splits["train"]:
        if overlap_key(pair[0]) in keys or overlap_key(pair[1]) in keys:
            if pair not in is_held_out:
                drops.add(language, "held_out", pair)
        else:
            kept.append(pair)
    return kept


def sample_by_temperature(
    pairs: Sequence[Sequence[str]], shares: Sequence[float], num_sentences: int
) -> list[str]:
    """Returns about `num_sentences` lines, a share from each language, repeated where few."""
    lines: list[str] = []
    for sentences, share in zip(pairs, shares, strict=True):
        wanted = max(1, round(share * num_sentences)) if sentences else 0
        repeats, rest = divmod(wanted, max(1, len(sentences)))
        lines += list(sentences) * repeats
        # Evenly spaced, so that a part of a corpus stands for the whole of it.
        lines += [sentences[index * len(sentences) // rest] for index in range(rest)]
    return lines
