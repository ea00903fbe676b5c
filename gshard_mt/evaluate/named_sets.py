"""Published test sets by name: FLORES+, NTREX and WMT24++ from a folder, others by sacreBLEU."""
# SPDX-License-Identifier: Apache-2.0

import functools
import http.client
import logging
import pathlib
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from sacrebleu.dataset import DATASETS
from sacrebleu.utils import SACREBLEU_DIR

from gshard_mt.data.corpora.jsonl import read_objects
from gshard_mt.data.corpora.moses import aligned_lines
from gshard_mt.documents import in_one_line
from gshard_mt.errors import ConfigError, DataError
from gshard_mt.languages import is_language, language_code, match_languages, source_language
from gshard_mt.storage.bucket_path import open_path

FORMS = "flores:devtest=FOLDER, ntrex=FOLDER, wmt24++=FOLDER, or a set of sacreBLEU such as wmt14"


class NamedSet(NamedTuple):
    """A test set, with the functions that read its sentences and their English."""

    name: str
    terms: str  # licence or description, and what to cite
    texts: Mapping[str, Callable[[], Iterable[tuple[str, str]]]]  # by the set's own language tags


class _Layout(NamedTuple):
    """How the authors of a set lay it out; `{split}` stands for a split's name."""

    splits: tuple[str, ...]
    folder: str  # of the files, which may also lie right in the one given
    names: tuple[str, ...]  # patterns of file names; the group is a tag
    example: str  # of a file
    english: str | None  # the tag of the English file; None if each file has both languages
    home: str
    terms: str


_LAYOUTS = {
    "flores": _Layout(
        ("dev", "devtest"),
        "{split}",
        (r"([^.]+)\.{split}", r"{split}\.([^.]+)"),
        "{split}/deu_Latn.{split}",
        "eng_Latn",
        "https://github.com/openlanguagedata/flores",
        "CC BY-SA 4.0; cite NLLB Team 2022, No Language Left Behind, arXiv:2207.04672",
    ),
    "ntrex": _Layout(
        (),
        "NTREX-128",
        (r"newstest2019-(?:src|ref)\.([^.]+)\.txt",),
        "NTREX-128/newstest2019-ref.deu.txt",
        "eng",
        "https://github.com/MicrosoftTranslator/NTREX",
        "CC BY-SA 4.0; cite Federmann, Kocmi and Xin 2022, NTREX-128, "
        "https://aclanthology.org/2022.sumeval-1.4",
    ),
    "wmt24++": _Layout(
        (),
        ".",
        (r"en-([^.]+)\.jsonl",),
        "en-de_DE.jsonl",
        None,
        "https://huggingface.co/datasets/google/wmt24pp",
        "Apache-2.0; cite Deutsch et al. 2025, WMT24++, arXiv:2502.12404",
    ),
}


def is_named(value: str) -> bool:
    """Tells whether a value of --testset begins with a set's name: `flores:devtest=FOLDER`."""
    name = value.partition("=")[0]
    return name in DATASETS or name.partition(":")[0] in _LAYOUTS


def open_named(value: str) -> NamedSet:
    """Finds a set's languages. Raises ConfigError or DataError if its files aren't there."""
    name, _, folder = value.partition("=")
    if name in DATASETS and folder:
        raise ConfigError(
            f"--testset: found {value!r}, accepted: {name}; sacreBLEU keeps it in {SACREBLEU_DIR}, "
            "or where the variable SACREBLEU says"
        )
    if name in DATASETS:
        found = DATASETS[name]
        citation = " ".join((found.citation or "").split())
        return NamedSet(
            name,
            f"{found.description} {citation and f'Cite {citation}'}".strip(),
            {
                pair.removesuffix("-en"): functools.partial(_fetch, name, pair)
                for pair in found.langpairs
                if pair.endswith("-en")
            },
        )
    title, _, split = name.partition(":")
    layout = _LAYOUTS[title]
    if split not in (layout.splits or ("",)):
        forms = [f"{title}:{each}" for each in layout.splits] or [title]
        raise ConfigError(f"--testset: found {name!r}, accepted: {' or '.join(forms)}")
    if not folder:
        raise ConfigError(
            f"--testset: {name} is not downloaded; get it from {layout.home} and say where it is: "
            f"{name}=FOLDER"
        )
    return NamedSet(name, layout.terms, _find_texts(layout, split, open_path(folder)))


def read_named(found: NamedSet, language_pairs: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yields language pair, source and English of the sentences in a run's languages.

    Of several texts in a language (`fr_FR`, `fr_CA`) the one without a region is read, else that
    of the region of the same name, else the first. Standard error has the set's terms, and what of
    it and of the run is left out. Raises DataError if no language is in both.
    """
    languages = [source_language(pair) for pair in language_pairs]
    codes = match_languages(found.texts, languages)
    chosen: dict[str, str] = {}
    for tag in sorted(found.texts, key=_is_plain, reverse=True):
        if codes[tag] in languages:
            chosen.setdefault(f"{codes[tag]}-en", tag)
    lacking = [pair for pair in language_pairs if pair not in chosen]
    if not chosen:
        raise DataError(f"--testset: {found.name} has none of {', '.join(lacking)}")
    for pair, tag in chosen.items():
        for source, english in found.texts[tag]():
            yield pair, source, english
    print(f"testset     {found.name}: {found.terms}", file=sys.stderr)
    others = [tag for tag in found.texts if codes[tag] in languages and tag not in chosen.values()]
    for names, reason in ((lacking, f"not in {found.name}"), (others, "another text is read")):
        if names:
            print(f"left out    {', '.join(names)}: {reason}", file=sys.stderr)


def _is_plain(tag: str) -> tuple[bool, bool]:
    language, *rest = re.split("[-_]", tag.lower())
    region = next((each for each in rest if len(each) == 2), "")
    return not region, region == language


def _find_texts(
    layout: _Layout, split: str, folder: pathlib.Path
) -> dict[str, Callable[[], Iterable[tuple[str, str]]]]:
    inner = folder / layout.folder.format(split=split)
    names = [re.compile(name.format(split=split)) for name in layout.names]
    files = {
        match[1]: path
        for place in (folder, inner)
        if place.is_dir()
        for path in place.iterdir()
        for name in names
        if (match := name.fullmatch(path.name)) and is_language(match[1])
    }
    english = files.get(layout.english) if layout.english else None
    sources = {tag: files[tag] for tag in sorted(files) if language_code(tag) != "en"}
    if not sources or bool(layout.english) != bool(english):
        no_english = f" and none in {layout.english}" if layout.english and not english else ""
        example = layout.example.format(split=split)
        raise DataError(
            f"{folder}: found {len(sources)} texts{no_english}; accepted: files like {example}, "
            f"as at {layout.home}"
        )
    if english is None:
        return {tag: functools.partial(_read_both, path) for tag, path in sources.items()}
    return {tag: functools.partial(aligned_lines, path, english) for tag, path in sources.items()}


def _read_both(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    for where, row in read_objects(path):
        if row is None or row.get("is_bad_source"):
            continue
        english, text = row.get("source"), row.get("target")  # translated from English
        if not isinstance(english, str) or not isinstance(text, str):
            raise DataError(f'{where}: found no texts "source" and "target"; accepted: both')
        yield text, english


def _fetch(name: str, pair: str) -> Iterable[tuple[str, str]]:
    """Returns a set's sentences, downloaded by sacreBLEU unless it has them already."""
    said: list[logging.LogRecord] = []
    logger = logging.getLogger("sacrebleu")

    def keep(record: logging.LogRecord) -> bool:
        said.append(record)
        return False

    logger.addFilter(keep)
    try:
        source = DATASETS[name].get_source_file(pair)
        references = DATASETS[name].get_reference_files(pair)
    except (
        *(OSError, EOFError, http.client.HTTPException, tarfile.TarError, zipfile.BadZipFile),
        SystemExit,
    ) as error:
        # sacreBLEU exits after it has logged why.
        reason = said[0].getMessage() if said else in_one_line(error)
        raise DataError(
            f"--testset: {name} can't be fetched ({reason}); delete "
            f"{pathlib.Path(SACREBLEU_DIR, name)} and try again, or copy this folder from a "
            "machine where it worked"
        ) from None
    finally:
        logger.removeFilter(keep)
    if len(references) != 1:
        raise ConfigError(
            f"--testset: {name} has {len(references)} references of {pair}, accepted: 1"
        )
    return aligned_lines(pathlib.Path(source), pathlib.Path(references[0]))
