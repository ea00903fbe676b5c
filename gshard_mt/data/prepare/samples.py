"""Samples of every language of every corpus, and the filters' calibration on them.

They are drawn before the text is cleaned, by hashes of the pairs: the same for every pipeline.
"""
# SPDX-License-Identifier: Apache-2.0

import functools
import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import zstandard

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.calibration import Calibration
from gshard_mt.data.cleaning.clean import normalize_all
from gshard_mt.data.cleaning.confusable_languages import label_of
from gshard_mt.data.cleaning.evidence import EVIDENCE_CHARACTERS, Evidence, EvidenceTexts
from gshard_mt.data.cleaning.fold import hash_texts
from gshard_mt.data.cleaning.measure import SAMPLE_PAIRS, calibrate
from gshard_mt.data.cleaning.recognised_languages import RECOGNISED_LABELS
from gshard_mt.data.corpora.entry import Entry
from gshard_mt.data.prepare.blocks import RawBlock, read_blocks, write_file
from gshard_mt.documents import write_json
from gshard_mt.languages import base_language

_CALIBRATED = ("swapped", "script", "language")
# Of a corpus in one language, the sample is of the first blocks; another is read to its end.
_MOST_BLOCKS = 12
_MOST_CHARACTERS = 5000  # kept of a side

CorpusTag = tuple[int, str]  # number of the corpus, tag


class StoredSample(NamedTuple):
    """A sample of one tag in one corpus, on disk."""

    corpus: int
    tag: str
    path: pathlib.Path


class StoredCalibration(NamedTuple):
    """A calibration without its evidence; `path` has what that is made of, if there is any."""

    corpus: int
    tag: str
    calibration: Calibration
    path: pathlib.Path | None
    notes: list[str]


Calibrations = Mapping[CorpusTag, StoredCalibration]


def needs_samples(entry: Entry, config: CleaningConfig) -> bool:
    """Tells whether a filter of the corpus is calibrated; `config` is that of all corpora."""
    own = {key.rpartition(".")[2] for key, value in entry.cleaning if value}
    filters = [name for name in _CALIBRATED if getattr(config, name) or name in own]
    # A setting for a language does not switch a filter off for the others.
    off = {key for key, value in entry.cleaning if not value} - own
    return entry.split == "train" and bool(set(filters) - off)


def draw(entry: Entry, corpus: int) -> Iterator[RawBlock]:
    """Yields a sample of each tag of the recipe's n-th corpus, without repeated pairs."""
    most = _MOST_BLOCKS if len(entry.languages) == 1 and entry.languages != ("*",) else None
    held: dict[str, dict[int, tuple[int, str, str]]] = {}  # tag -> hash -> id, sides
    for raw in itertools.islice(read_blocks(entry, corpus), most):
        hashes = hash_texts([f"{a}\t{b}" for a, b in zip(raw.source, raw.english, strict=True)])
        _, first = np.unique(hashes, return_index=True)
        kept = held.setdefault(raw.tag, {})
        for row in first[:SAMPLE_PAIRS].tolist():
            sides = raw.source[row][:_MOST_CHARACTERS], raw.english[row][:_MOST_CHARACTERS]
            kept.setdefault(int(hashes[row]), (int(raw.id[row]), *sides))
        held[raw.tag] = {key: kept[key] for key in sorted(kept)[:SAMPLE_PAIRS]}
    for tag, kept in held.items():
        ids, source, english = zip(*sorted(kept.values()), strict=True)
        yield RawBlock(tag, entry.split, np.array(ids, np.int64), list(source), list(english))


def draw_samples(entry: Entry, corpus: int, folder: pathlib.Path) -> list[StoredSample]:
    """Draws the samples of a corpus and writes them to `folder`."""
    return [write_sample(raw, folder) for raw in draw(entry, corpus)]


def calibrate_sample(
    sample: StoredSample, samples: Sequence[StoredSample], config: CleaningConfig
) -> StoredCalibration:
    """Calibrates the filters of a corpus on a sample; `samples` are those of all languages."""
    source, english = _read_sample(sample)
    mine = base_language(sample.tag)
    others = {
        label: each
        for each in sorted(samples, reverse=True)
        if base_language(each.tag) != mine
        if (label := label_of(base_language(each.tag))) in RECOGNISED_LABELS
    }
    is_script_only = not (config.language or config.swapped)
    found = calibrate(sample.tag, source, english, _Sources(others), is_script_only)
    path = _write_texts(found.texts, sample.path.parent) if found.texts else None
    return StoredCalibration(sample.corpus, sample.tag, found.calibration, path, found.notes)


def load_calibration(stored: StoredCalibration) -> Calibration:
    """Returns the calibration with its evidence."""
    evidence = _load_evidence(stored.path) if stored.path else None
    return stored.calibration._replace(evidence=evidence)


def lines_of(notes: Iterable[tuple[int, str, list[str]]]) -> list[str]:
    """Returns what to tell the user of each (corpus, tag, notes), one line for a note."""
    return [
        f"corpus {corpus + 1}, {tag}: {note}"
        for corpus, tag, some in sorted(notes)
        for note in some
    ]


class _Sources(Mapping[str, list[str]]):
    """The sources of samples, which are read when they are asked for."""

    def __init__(self, samples: Mapping[str, StoredSample]):
        self._samples = samples

    def __getitem__(self, label: str) -> list[str]:
        return _read_sample(self._samples[label])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._samples))

    def __len__(self) -> int:
        return len(self._samples)


def write_sample(raw: RawBlock, folder: pathlib.Path) -> StoredSample:
    """Writes the starts of a sample's pairs, normalized, to `folder`."""
    source = normalize_all([text[:EVIDENCE_CHARACTERS] for text in raw.source])
    english = normalize_all([text[:EVIDENCE_CHARACTERS] for text in raw.english])
    kept = [(a, b) for a, b in zip(source, english, strict=True) if a and b]
    path = folder / f"{raw.corpus}-{raw.tag}.sample.zst"
    text = "\n".join([a for a, _ in kept] + [b for _, b in kept])
    write_file(path, zstandard.ZstdCompressor(level=1).compress(text.encode()))
    return StoredSample(raw.corpus, raw.tag, path)


def _read_sample(sample: StoredSample) -> tuple[list[str], list[str]]:
    content = zstandard.ZstdDecompressor().decompress(sample.path.read_bytes()).decode()
    lines = content.split("\n") if content else []
    return lines[: len(lines) // 2], lines[len(lines) // 2 :]


def _write_texts(texts: EvidenceTexts, folder: pathlib.Path) -> pathlib.Path:
    """Writes texts to a file that is named after its content: it is loaded once per process."""
    content = [*texts.own, *(line for label in texts.others for line in texts.others[label])]
    name = f"{int(hash_texts([repr(content)])[0]):016x}.evidence.json"
    write_json(folder / name, texts._asdict(), ensure_ascii=False)
    return folder / name


@functools.lru_cache(2)
def _load_evidence(path: pathlib.Path) -> Evidence:
    content = json.loads(path.read_text(encoding="utf-8"))
    return Evidence(EvidenceTexts(content["own"], content["others"]))
