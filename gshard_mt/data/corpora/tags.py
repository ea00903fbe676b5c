"""Tags: maps a corpus's language tags to the languages that an entry of a recipe wants."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys
from collections import Counter

from gshard_mt.console import say
from gshard_mt.errors import DataError
from gshard_mt.languages import base_language, is_language, language_code

ENGLISH = "en"

_MAX_TAGS = 10_000  # to cache: keys of a file may be anything
_MAX_NAMED = 12  # to list in an error


class Tags(dict[str, str | None]):
    """Maps a tag to ENGLISH, to itself if the entry wants its language, or to None.

    A language includes its locales and scripts: `es` includes `es-419`, `sr` includes `sr-Latn`.
    Text whose tag is no language is passed over, counted by `pass_over` and told by `tell`.
    """

    def __init__(self, languages: tuple[str, ...], where: pathlib.Path | str):
        super().__init__()
        self.languages = languages
        self.is_any = languages == ("*",)
        self._where = where
        self._passed_over: Counter[str] = Counter()
        scripted = {tag for tag in languages if "_" in tag}
        self._bases = {tag for tag in languages if tag not in scripted}
        self._codes = set() if self.is_any else {language_code(tag) for tag in scripted}

    def __missing__(self, tag: str) -> str | None:
        role = self._role(tag)
        if len(self) < _MAX_TAGS:
            self[tag] = role
        return role

    @property
    def single(self) -> str:
        """The entry's only language, for text without tags. Raises DataError if there are more."""
        if len(self.languages) != 1 or self.is_any:
            raise DataError(
                f"{self._where}: doesn't say which language its sources are; "
                "accepted for it: one language in the recipe's entry"
            )
        return self.languages[0]

    def pass_over(self, tag: str) -> None:
        """Counts a text that is not read, if that is because its tag is no language."""
        if self[tag] is None and not is_language(tag):
            self._passed_over[tag if tag in self else "others"] += 1

    def tell(self, what: str = "texts") -> None:
        """Says on standard error how much was passed over for its tags, if anything was."""
        if not self._passed_over:
            return
        most = self._passed_over.most_common(_MAX_NAMED)
        names = ", ".join(f"{ascii(tag[:40])} ({number})" for tag, number in most)
        names += ", ..." if len(self._passed_over) > _MAX_NAMED else ""
        say(
            f"{self._where}: {what} passed over: {self._passed_over.total()}, of tags that are no "
            f"language: {names}; accepted: tags like de, deu, pt-BR, sr_Latn",
            sys.stderr,
        )

    def refusal(self) -> DataError:
        """Returns the error for a file without any wanted pair; lists the tags looked up."""
        if self.is_any and self._passed_over and not {*self.values()} - {None, ENGLISH}:
            try:
                base_language(next(iter(self._passed_over)))
            except DataError as error:
                return DataError(f"{self._where}: {error}; or list the languages wanted")
        found = sorted(tag for tag in self if tag.isprintable())
        names = ", ".join(found[:_MAX_NAMED]) + (", ..." if len(found) > _MAX_NAMED else "")
        wanted = "any language" if self.is_any else " or ".join(self.languages[:_MAX_NAMED])
        return DataError(
            f"{self._where}: no pairs of {wanted} and English in it; it has {names or 'nothing'}"
        )

    def _role(self, tag: str) -> str | None:
        if not is_language(tag):
            return None
        code, base = language_code(tag), base_language(tag)
        if base == ENGLISH:
            return ENGLISH if code == ENGLISH else None  # not in the Shavian alphabet
        return tag if self.is_any or base in self._bases or code in self._codes else None
