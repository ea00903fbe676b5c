"""Tags: what an entry of a recipe makes of the language tags that a corpus uses."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from gshard_mt.errors import DataError
from gshard_mt.languages import base_language, language_code

ENGLISH = "en"

_MAX_TAGS = 10_000  # that are remembered: keys of a file may be anything
_MAX_NAMED = 12  # in an error


class Tags(dict[str, str | None]):
    """Maps a tag to ENGLISH, to itself where the entry asks for its language, or to None.

    A language takes all its locales and scripts: `es` takes `es-419`, `sr` takes `sr-Latn`.
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
        """The one language of the entry, for text that says nothing of it. Raises DataError."""
        if len(self.languages) != 1 or self.is_any:
            raise DataError(
                f"{self._where}: doesn't say which language its sources are; "
                "accepted for it: one language in the recipe's entry"
            )
        return self.languages[0]

    def refusal(self) -> DataError:
        """Returns the error for a file in which all tags were looked up and no pair was found."""
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
