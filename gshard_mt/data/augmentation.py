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
        """Returns the pairs of a chunk, some of them changed: a function of seed and chunk.

        `pair_of` has the number of each one's language pair. A pair stays as it is if it would
        become longer than a row or has tokens of unknown text.
        """
        rates = rates_of(self.config.augmentation)
        draws = np.random.default_rng([self.config.seed, chunk]).random(len(pair_of))
        kinds = np.searchsorted(np.cumsum(list(rates.values())), draws, side="right")
        sources = _split(columns.source, columns.source_lengths)
        targets = _split(columns.target, columns.target_lengths)
        for row in np.flatnonzero(kinds < len(rates)).tolist():
            if language := self.languages[pair_of[row]]:
                seed = f"{self.config.seed} {chunk} {row}"
                name, ids = [*rates][kinds[row]], (sources[row], targets[row])
                sources[row], targets[row] = self._perturb(name, language, seed, ids)
        return Columns(*_join(sources), *_join(targets))

    def _perturb(
        self, name: str, language: str, seed: str, ids: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        source, target = ids
        if unk_id in source or unk_id in target:
            return source, target
        text = self.tokenizer.decode_sources([source.tolist()])[0]
        pair = Sentence(language, text, self.tokenizer.decode_target(target.tolist()))
        source_text, english = perturb(name, pair, seed)
        new_source = self.tokenizer.encode_source([source_text])[0]
        new_target = self.tokenizer.encode_target([english])[0]
        # A row also has room for EOS.
        fits = len(new_source) < self.config.source_length
        if not fits or len(new_target) >= self.config.target_length:
            return source, target
        return np.array(new_source, np.int32), np.array(new_target, np.int32)


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
    ids = np.concatenate([np.zeros(0, np.int32), *lists])
    return ids, np.array([len(each) for each in lists], np.int64)
