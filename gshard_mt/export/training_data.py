"""What an exported model was trained on: sentence pairs by language, corpora and their licences."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter, defaultdict

from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.errors import DataError, StorageError
from gshard_mt.languages import english_name, source_language
from gshard_mt.report.tables import Table
from gshard_mt.run.directory import Run


def tabulate_languages(run: Run) -> Table:
    """Returns the languages with their training pairs, the most first."""
    ranked = sorted(run.train_pairs.items(), key=lambda item: (-item[1], item[0]))
    codes = [(source_language(pair), number) for pair, number in ranked]
    rows = [[code, english_name(code), f"{number:,}"] for code, number in codes]
    return Table(["code", "language", "training pairs"], rows, text_columns=(0, 1))


def tabulate_corpora(run: Run) -> Table | None:
    """Returns the corpora that the run's data have training pairs of.

    None if these data are not in their place any more, can't be read, or are others. Data of old
    versions don't tell how many pairs are of which corpus.
    """
    try:
        prepared = open_prepared(run.data_dir)
        if prepared.fingerprint != run.data_fingerprint:
            return None
        rows = _rows(prepared)
    except (DataError, StorageError, KeyError, TypeError, AttributeError):
        return None
    return Table(["corpus", "languages", "licence", "training pairs"], rows, text_columns=(0, 1, 2))


def _rows(prepared: Prepared) -> list[list[str]]:
    """Returns a row for each name; several entries of a recipe may share one."""
    pairs: Counter[str] = Counter()
    languages: dict[str, set[str]] = defaultdict(set)
    for pair, corpora in prepared.corpora.items():
        for corpus in corpora:
            pairs[corpus.name] += corpus.pairs
            languages[corpus.name].add(source_language(pair))
    licenses: dict[str, dict[str, None]] = defaultdict(dict)  # in their order
    for entry in prepared.manifest["recipe"]["corpora"]:
        if entry["split"] != "train" or (pairs and not pairs[entry["name"]]):
            continue
        licenses[entry["name"]][entry["license"]] = None
        if not pairs:
            languages[entry["name"]] |= set(entry["languages"])
    return [
        [
            name,
            ", ".join(sorted(languages[name])),
            "; ".join(found),
            f"{pairs[name]:,}" if pairs else "",
        ]
        for name, found in licenses.items()
    ]
