"""Augmentation: perturbs a share of the training pairs, differently each time one is read."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from gshard_mt.config.records import AugmentationConfig, DataConfig
from gshard_mt.data.examples import Columns
from gshard_mt.data.perturbations import PERTURBATIONS, Sentence, perturb
from gshard_mt.data.tokenizer import Tokenizer, unk_id
from gshard_mt.errors import ConfigError, suggest
from gshard_mt.languages import find_language, source_language


def rates_of(config: AugmentationConfig) -> dict[str, float]:
    """Returns the perturbations in use, and the share of training pairs that each is applied to."""
    rates = {name: getattr(config, name) for name in PERTURBATIONS}
    return {name: rate for name, rate in rates.items() if rate}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Perturbs a share of the sentence pairs of some languages."""

    config: DataConfig
    tokenizer: Tokenizer
    languages: Sequence[str | None]  # of each language pair's number; None is left alone

    def apply(self, columns: Columns, pair_of: np.ndarray, chunk: int) -> Columns:
        """Returns the pairs of a chunk, some of them perturbed: a function of seed and chunk.

        `pair_of` has the number of each one's language pair. A pair stays as it is if it would
        become longer than a row or has tokens of unknown text.
        """
        names, shares = zip(*rates_of(self.config.augmentation).items(), strict=True)
        draws = np.random.default_rng([self.config.seed, chunk]).random(len(pair_of))
        kinds = np.searchsorted(np.cumsum(shares), draws, side="right")
        sources = _split(columns.source, columns.source_lengths)
        targets = _split(columns.target, columns.target_lengths)
        rows = [
            row
            for row in np.flatnonzero(kinds < len(names)).tolist()
            if self.languages[pair_of[row]]
            if unk_id not in sources[row] and unk_id not in targets[row]
        ]
        sentences = [
            Sentence(self.languages[pair_of[row]] or "", source, english)
            for row, source, english in zip(
                rows,
                self.tokenizer.decode_sources([sources[row].tolist() for row in rows]),
                self.tokenizer.decode_targets([targets[row].tolist() for row in rows]),
                strict=True,
            )
        ]
        perturbed = [
            perturb(names[kinds[row]], sentence, f"{self.config.seed} {chunk} {row}")
            for row, sentence in zip(rows, sentences, strict=True)
        ]
        new_sources = self.tokenizer.encode_source([source for source, _ in perturbed])
        new_targets = self.tokenizer.encode_target([english for _, english in perturbed])
        for row, source, target in zip(rows, new_sources, new_targets, strict=True):
            # A row also has room for EOS.
            if len(source) < self.config.source_length and len(target) < self.config.target_length:
                sources[row], targets[row] = np.array(source), np.array(target)
        return Columns(*_join(sources), *_join(targets))


def make_augmentation(
    config: DataConfig, language_pairs: Sequence[str], tokenizer: Callable[[], Tokenizer]
) -> Augmentation | None:
    """Returns the augmentation that a config asks for, or None.

    Raises ConfigError for a language that the data don't have.
    """
    if not rates_of(config.augmentation):
        return None
    languages = [source_language(pair) for pair in language_pairs]
    asked = [each.strip() for each in config.augmentation.languages.split(",") if each.strip()]
    chosen = [_find(language, languages) for language in asked] or languages
    kept = [language if language in chosen else None for language in languages]
    return Augmentation(config, tokenizer(), kept)


def _find(language: str, languages: Sequence[str]) -> str:
    found = find_language(language, languages)
    if not found:
        raise ConfigError(
            f"config.data.augmentation.languages: found {language!r}, accepted: languages of the "
            f"data{suggest(language, languages)}"
        )
    return found


def _split(ids: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(ids, np.cumsum(lengths)[:-1]) if len(lengths) else []


def _join(lists: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.concatenate([np.zeros(0, np.int32), *lists], dtype=np.int32)
    return ids, np.array([len(each) for each in lists], np.int64)
