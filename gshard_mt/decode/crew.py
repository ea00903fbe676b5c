"""Several processes that decode as one: process 0 leads, and the others do their share of it."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

import jax

from gshard_mt.config.keys import from_json, to_json
from gshard_mt.config.records import Config
from gshard_mt.decode.loading import load_translator
from gshard_mt.decode.score import SCORE, Scorer
from gshard_mt.decode.translate import TRANSLATE, Sampling, Translator
from gshard_mt.decode.translation import LineOptions
from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.hosts import check_agreement, is_writer
from gshard_mt.partitioning.messages import Messages
from gshard_mt.run.mirror import opened_folder, shown
from gshard_mt.run.pruning import Pruning

_LOAD, _END = "load", "end"  # besides what a translator announces


class Crew:
    """The processes of a command; one that runs alone is a crew of one.

    Process 0 does what the command does and announces whatever the devices have a share in. The
    others repeat that, since a program on all devices is started by all processes.
    """

    def __init__(self):
        self._messages = Messages()
        self._translators: list[Translator] = []

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process; asking touches no device."""
        return not jax.distributed.is_initialized()

    @property
    def is_leader(self) -> bool:
        """Whether this is process 0, or alone."""
        return self.is_alone or is_writer()

    def load(
        self, folder: pathlib.Path, config: Config, step: str, pruning: Pruning | None = None
    ) -> Translator:
        """Returns `load_translator` on all processes, which share what it translates or scores."""
        chosen = pruning and pruning._asdict()
        self._messages.send([_LOAD, shown(folder.absolute()), to_json(config), step, chosen])
        translator = load_translator(folder, config, step, pruning)
        check_agreement({"--step": translator.name})
        number = len(self._translators)
        translator.announce = lambda *work: self._messages.send([work[0], number, *work[1:]])
        self._translators.append(translator)
        return translator

    def end(self, is_done: bool) -> None:
        """Lets the others go. `is_done` tells whether the command has done what it should."""
        self._messages.send([_END, is_done])

    def follow(self) -> None:
        """Does the share of a process that isn't the leader, until that one ends.

        Raises ConfigError if the leader ended with an error, which it prints.
        """
        scorers: dict[int, Scorer] = {}
        while True:
            kind, *work = self._messages.receive()
            if kind == _LOAD:
                folder, config, step, chosen = work
                pruning = chosen and Pruning(**chosen)
                self.load(opened_folder(folder), from_json(config), step, pruning)
            elif kind == TRANSLATE:
                number, lines, num, sampling, options = work
                asked = [LineOptions(*each) for each in options]
                sampling = sampling and Sampling(*sampling)
                self._translators[number].list_best(lines, num, sampling=sampling, options=asked)
            elif kind == SCORE:
                number, pairs = work
                scorer = scorers.setdefault(number, Scorer(self._translators[number]))
                scorer.score(pairs)
            else:
                (is_done,) = work
                break
        if not is_done:
            raise ConfigError("process 0 ended with an error, which it has printed")
