"""Copies a corpus with noise in a share of its training pairs, to see what cleaning finds.

    python scripts/add_noise.py CORPUS NOISY --share 0.2 [--kind KIND] [--languages deu,fra]
        [--seed 0]

CORPUS has files of source TAB English: LANGUAGE-en.train.tsv and, if wanted, LANGUAGE-en.dev.tsv
and LANGUAGE-en.test.tsv, which stay as they are. NOISY gets

    LANGUAGE-en.train.tsv      the pairs in their order, some of them spoiled
    LANGUAGE-en.train.labels   for each line what was done to it; `clean` if nothing
    recipe.toml                a recipe of these files

Kinds: misaligned (the English of another pair), wrong_language (a source sentence of another
language's file; --languages doesn't limit these), copied (one side on both), truncated (one side
cut to the first half of its words), swapped (the sides change places); mix, the default, is an even
mixture of these. The same seed gives the same files.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import pathlib
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.tsv import read_tsv
from gshard_mt.errors import ConfigError, UserError

CLEAN = "clean"
_TRIES = 100  # to find a sentence that differs
_LICENSE = "as the original's"


class Draw(NamedTuple):
    """What noise is drawn from."""

    random: random.Random
    pairs: Sequence[Pair]  # of the language
    others: Sequence[Sequence[str]]  # source sentences of each other language


def misalign(pair: Pair, draw: Draw) -> Pair:
    for _ in range(_TRIES):
        other = draw.random.choice(draw.pairs).english
        if other != pair.english:
            return pair._replace(english=other)
    return pair


def take_other_language(pair: Pair, draw: Draw) -> Pair:
    for _ in range(_TRIES if draw.others else 0):
        other = draw.random.choice(draw.random.choice(draw.others))
        if other != pair.source:
            return pair._replace(source=other)
    return pair


def copy_side(pair: Pair, draw: Draw) -> Pair:
    text = draw.random.choice((pair.source, pair.english))
    return pair._replace(source=text, english=text)


def truncate(pair: Pair, draw: Draw) -> Pair:
    side = draw.random.choice(("source", "english"))
    text = getattr(pair, side)
    words = text.split()
    if len(words) > 1:
        return pair._replace(**{side: " ".join(words[: len(words) // 2])})
    return pair._replace(**{side: text[: len(text) // 2] or text})


def swap(pair: Pair, draw: Draw) -> Pair:
    return pair._replace(source=pair.english, english=pair.source)


KINDS: dict[str, Callable[[Pair, Draw], Pair]] = {
    "misaligned": misalign,
    "wrong_language": take_other_language,
    "copied": copy_side,
    "truncated": truncate,
    "swapped": swap,
}
MIX = "mix"


def spoil(
    pairs: Sequence[Pair], others: Sequence[Sequence[str]], share: float, kind: str, seed: str
) -> tuple[list[Pair], list[str]]:
    """Returns the pairs with noise in a share of them, and the label of each.

    A pair that a kind of noise leaves as it was is labelled clean.
    """
    draw = Draw(random.Random(seed), pairs, others)
    kinds = list(KINDS) if kind == MIX else [kind]
    found, labels = list(pairs), [CLEAN] * len(pairs)
    rows = draw.random.sample(range(len(pairs)), round(share * len(pairs)))
    for number, row in enumerate(rows):
        name = kinds[number % len(kinds)]
        noisy = KINDS[name](pairs[row], draw)
        if noisy != pairs[row]:
            found[row], labels[row] = noisy, name
    return found, labels


def read_corpus(folder: pathlib.Path, languages: Sequence[str]) -> dict[str, list[Pair]]:
    """Returns the training pairs of all languages of the folder; those named must be among them."""
    end = "-en.train.tsv"
    known = sorted(path.name.removesuffix(end) for path in folder.glob(f"*{end}"))
    if not known:
        raise ConfigError(f"{folder}: found no file named LANGUAGE{end}")
    if unknown := [name for name in languages if name not in known]:
        raise ConfigError(f"--languages: found {unknown[0]}, accepted: {' '.join(known)}")
    read = {}
    for name in known:
        file = f"{name}{end}"
        read[name] = list(read_tsv(Entry((name,), "train", "tsv", file, "", "", folder)))
    return read


def write_corpus(
    flags: argparse.Namespace, name: str, pairs: Sequence[Pair], labels: Sequence[str]
) -> None:
    path = flags.target / f"{name}-en.train.tsv"
    lines = "".join(f"{pair.source}\t{pair.english}\n" for pair in pairs)
    path.write_text(lines, encoding="utf-8", newline="")
    text = "".join(f"{label}\n" for label in labels)
    path.with_suffix(".labels").write_text(text, encoding="utf-8")
    for split in ("dev", "test"):
        source = flags.source / f"{name}-en.{split}.tsv"
        if source.is_file():
            shutil.copyfile(source, flags.target / source.name)


def recipe_text(folder: pathlib.Path, languages: Iterable[str]) -> str:
    """Returns a recipe with an entry for each file of the folder."""
    tables = ['name = "noisy"\n']
    for name in languages:
        for split in ("train", "dev", "test"):
            file = f"{name}-en.{split}.tsv"
            if (folder / file).is_file():
                tables.append(
                    f'\n[[corpus]]\nlanguage = "{name}"\nsplit    = "{split}"\n'
                    f'source   = "tsv:{file}"\nlicense  = "{_LICENSE}"\n'
                )
    return "".join(tables)


def add_noise(flags: argparse.Namespace) -> None:
    """Writes the noisy corpus. Raises ConfigError or DataError."""
    if not 0 <= flags.share <= 1:
        raise ConfigError(f"--share: found {flags.share:g}, accepted: 0 to 1")
    if flags.target.exists() and any(flags.target.iterdir()):
        raise ConfigError(f"{flags.target}: not empty; accepted: a new folder")
    languages = flags.languages.split(",") if flags.languages else []
    corpus = read_corpus(flags.source, languages)
    sources = {name: [pair.source for pair in pairs] for name, pairs in corpus.items()}
    flags.target.mkdir(parents=True, exist_ok=True)
    for name in languages or corpus:
        pairs = corpus[name]
        others = [texts for other, texts in sources.items() if other != name and texts]
        seed = f"{flags.seed} {name}"
        write_corpus(flags, name, *spoil(pairs, others, flags.share, flags.kind, seed))
    (flags.target / "recipe.toml").write_text(
        recipe_text(flags.target, languages or corpus), encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--share", type=float, required=True, help="share of the training pairs")
    parser.add_argument("--kind", choices=[MIX, *KINDS], default=MIX)
    parser.add_argument("--languages", help="a list like deu,fra; default: all")
    parser.add_argument("--seed", type=int, default=0)
    try:
        add_noise(parser.parse_args())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
