"""The texts of a request: as sentences for the queue, and joined again for the answer."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Sequence
from typing import Any

from gshard_mt.decode.sentences import Splitter
from gshard_mt.decode.translation import Translation, join_best
from gshard_mt.run.calibration import ConfidenceCurve
from gshard_mt.serve.batcher import Best, Item
from gshard_mt.serve.limits import Limits, RefusedError
from gshard_mt.serve.request import Question


class Texts:
    """The sentences of a request's texts."""

    def __init__(self, question: Question, splitter: Splitter, limits: Limits):
        """Splits the texts. Raises RefusedError if they have more sentences than are accepted."""
        self._question = question
        self._languages: list[str | None] = [question.options.language] * len(question.texts)
        if question.detects_language and not question.options.language:
            self._languages = splitter.identify(question.texts)
        self._split = splitter.split(question.texts, self._languages)
        number, most = sum(len(each.parts) for each in self._split), limits.max_waiting
        if number > most:
            name = "texts" if len(question.texts) > 1 else "text"
            raise RefusedError(
                413, f"{name}: found {number} sentences, accepted: at most {most} in a request"
            )

    @property
    def items(self) -> list[Item]:
        """The sentences and what is asked of them; only a text's first one has the prefix."""
        first, nbest = self._question.options, self._question.nbest
        others = first._replace(prefix="")
        return [
            Item(part, nbest, others if number else first)
            for each in self._split
            for number, part in enumerate(each.parts)
        ]

    def to_json(self, found: Sequence[Best], calibration: ConfidenceCurve | None) -> dict[str, Any]:
        """Returns the answer, given the translations of the sentences."""
        parts = iter(found)
        texts = [
            join_best(each, [next(parts) for _ in each.parts], keeps_layout=True)
            for each in self._split
        ]
        question, best = self._question, [each[0] for each in texts]
        answer: dict[str, Any] = {"translations": [each.text for each in best]}
        if truncated := [index for index, each in enumerate(best) if each.is_truncated]:
            answer["truncated"] = truncated
        if in_pieces := [index for index, each in enumerate(best) if each.is_in_pieces]:
            answer["in_pieces"] = in_pieces
        if question.has_scores:
            answer["scores"] = [each.score for each in best]
        if question.has_confidence and calibration:
            answer["confidences"] = [calibration.confidence(each.mean) for each in best]
        if question.nbest > 1:
            answer["nbest"] = [list(map(_candidate, each[: question.nbest])) for each in texts]
        if question.detects_language:
            answer["source_languages"] = self._languages
        return answer


def _candidate(translation: Translation) -> dict[str, Any]:
    return {"text": translation.text, "score": translation.score}
