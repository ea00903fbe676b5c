"""Tags: maps a corpus's language tags to the languages that an entry of a recipe wants."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from gshard_mt.errors import DataError
from gshard_mt.languages import base_language, language_code

ENGLISH = "en"

_MAX_TAGS = 10_000  # to cache: keys of a file may be anything
_MAX_NAMED = 12  # to list in an error


class Tags(dict[str, str | None]):
    """Maps a tag to ENGLISH, to itself if the entry wants its language, or to None.

    A language includes its locales and scripts: `es` includes `es-419`, `sr` includes `sr-Latn`.
    """

    def __init__(self, languages: tuple[str, ...], where: pathlib.Path | str):
        super().__init__()
        self.languages = languages
        self.is_any = languages == ("*",)
        self._where = where

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

    def refusal(self) -> DataError:
        """Returns the error for a file without any wanted pair; lists the tags looked up."""
        found = sorted(tag for tag in self if tag.isprintable())
        names = ", ".join(found[:_MAX_NAMED]) + (", ..." if len(found) > _MAX_NAMED else "")
        wanted = "any language" if self.is_any else " or ".join(self.languages[:_MAX_NAMED])
        return DataError(
            f"{self._where}: no pairs of {wanted} and English in it; it has {names or 'nothing'}"
        )

    def _role(self, tag: str) -> str | None:
        try:
            base = base_language(tag)
            if base == "en":
                return ENGLISH
            if self.is_any or base in self.languages or language_code(tag) in self.languages:
                return tag
        except DataError as error:
            if self.is_any:
                raise DataError(f"{self._where}: {error}; or list the languages wanted") from None
        return None
