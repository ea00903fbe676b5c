"""The Python interface: what gshard-translate, gshard-score and others do, in five functions.

from gshard_mt import api

model = api.load("build/my/run")
[[best]] = api.translate(model, ["Zwei Hunde spielen im Schnee."])

What a user can mend is raised as a UserError with the message that the command would print.
"""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gshard_mt.config.checks import check
from gshard_mt.config.keys import check_values, refuse_unknown_key
from gshard_mt.config.load import load_config, shorten_paths
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError
from gshard_mt.languages import language_code
from gshard_mt.storage.bucket_path import open_path

if TYPE_CHECKING:
    from gshard_mt.decode.score import PairScore, Scorer
    from gshard_mt.decode.translate import Translator
    from gshard_mt.decode.translation import LineOptions, Translation
    from gshard_mt.evaluate.table import ScoreTable
    from gshard_mt.run.directory import Run

__all__ = ["evaluate", "load", "prepare", "score", "translate"]

Path = str | os.PathLike[str]


class LoadedModel(NamedTuple):
    """A model on JAX's devices, as `load` returns it for the other functions."""

    folder: pathlib.Path
    run: "Run"
    translator: "Translator"
    scorer: "Scorer"


def load(folder: Path, step: int | str = "latest", **decode: Any) -> LoadedModel:
    """Loads a step of a run directory, or a model of gshard-export with its only step.

    The step is a number, `latest`, `best` or `average`; `decode` are keys of the config's decode
    section with other values than the run's, such as `beam_size=1`. The model is placed on all
    devices of JAX, whatever it was trained on. Unless JAX has a compilation cache, compiled
    programs are kept where the commands keep them.
    """
    import jax

    from gshard_mt.decode.loading import load_translator
    from gshard_mt.decode.score import Scorer
    from gshard_mt.run.exported import read_trained
    from gshard_mt.run.mirror import open_folder
    from gshard_mt.run.programs import keep_programs

    folder = open_folder(folder)
    run = read_trained(folder)
    config = _with_values(run.config, "decode", decode)
    if not jax.config.jax_compilation_cache_dir:  # type: ignore
        keep_programs(folder)
    translator = load_translator(folder, config, str(step))
    return LoadedModel(folder, run, translator, Scorer(translator))


def translate(
    model: LoadedModel,
    texts: Iterable[str],
    nbest: int = 1,
    sample: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> list[list["Translation"]]:
    """Returns up to `nbest` translations of each text, best first.

    If `sample` is over 0, they are samples at this temperature. The options are `source_language`,
    `prefix`, which is English that a translation begins with, or a list with one for each text,
    `beam_size`, up to that of the loaded model, and `length_penalty`.
    """
    from gshard_mt.decode.translate import Sampling

    texts = _strings("texts", texts)
    asked = _options_of_lines(model, len(texts), **options)
    _check_count("nbest", nbest, None if sample else model)
    if sample < 0:
        raise ConfigError(f"sample: found {sample}, accepted: a temperature, e.g. 0.8")
    sampling = Sampling(sample, seed) if sample else None
    return model.translator.list_best(texts, nbest, sampling=sampling, options=asked)


def score(model: LoadedModel, pairs: Iterable[tuple[str, str]]) -> list["PairScore"]:
    """Returns how probable the model finds each pair of a source and its translation."""
    pairs = list(pairs)
    for index, pair in enumerate(pairs):
        if not (isinstance(pair, Sequence) and len(pair) == 2 and not isinstance(pair, str)):
            raise ConfigError(f"pairs[{index}]: found {pair!r}, accepted: a source and a target")
        _strings(f"pairs[{index}]", pair)
    return model.scorer.score(pairs)


def evaluate(
    model: LoadedModel,
    test_set: str | Sequence[str] = "test",
    data_dir: Path | None = None,
    leak_check: bool = True,
    metrics: Sequence[str] = (),
    baseline: LoadedModel | None = None,
) -> "ScoreTable":
    """Translates and scores a test set; returns the table, which is also written as files.

    It is `test` or `dev`, held-out sentences of the run's prepared data, or what gshard-eval takes
    as --testset: a value or a list of them. `data_dir`, `leak_check` and `metrics` are its flags of
    these names. The baseline translates the same sentences for comparison.
    """
    from gshard_mt.evaluate import test_sets
    from gshard_mt.evaluate.evaluate import Place, evaluate, translate_all
    from gshard_mt.evaluate.scores import extra_metrics

    chosen = extra_metrics(metrics)
    values = [test_set] if isinstance(test_set, str) else test_set
    places = [str(data_dir)] if data_dir else []
    run, folder, translator = model.run, model.folder, model.translator
    test, training_data = test_sets.open_test_set(values, run, folder, places, leak_check)
    leaks = test_sets.find_leaks(test, training_data, translator.tokenizer)
    other = None
    if baseline:
        other = functools.partial(translate_all, baseline.translator, name="baseline")
    return evaluate(Place(folder), translator, test, leaks, other, chosen)


def prepare(config: Path | Config, data_dir: Path, **data: Any) -> dict[str, Any]:
    """Prepares the corpora of a config's recipe for training; returns the manifest.

    The config is a file or what its `get_config()` returns; `data` are keys of its data section
    with other values, such as `recipe="my.toml"`. Finished data with the same settings are left as
    they are. A script calls it under `if __name__ == "__main__":`, because processes are started.
    """
    from gshard_mt.data.prepare.changes import describe_changes
    from gshard_mt.data.prepare.prepare import prepare

    config = config if isinstance(config, Config) else load_config(config)
    config = _with_values(config, "data", data)
    shorten_paths(config)
    check(config)
    folder = open_path(data_dir)
    manifest, is_there = prepare(config.data, folder)
    if is_there and (changes := describe_changes(config.data, folder)):
        print(changes, file=sys.stderr)
    return manifest


def _with_values(config: Config, section: str, values: dict[str, Any]) -> Config:
    """Returns a config with other values of a section's keys. Raises ConfigError."""
    for name in values:
        refuse_unknown_key(f"{section}.{name}")
    record = dataclasses.replace(getattr(config, section), **values)
    config = dataclasses.replace(config, **{section: record})
    check_values(config)
    return config


def _options_of_lines(
    model: LoadedModel,
    num: int,
    source_language: str | None = None,
    prefix: str | Sequence[str] = "",
    beam_size: int | None = None,
    length_penalty: float | None = None,
) -> list["LineOptions"]:
    from gshard_mt.decode.translation import LineOptions

    if source_language is not None:
        model.run.check_language(source_language)
        source_language = language_code(source_language)
    if beam_size is not None:
        _check_count("beam_size", beam_size, model)
    if length_penalty is not None:
        _with_values(model.run.config, "decode", {"length_penalty": length_penalty})
    prefixes = [prefix] * num if isinstance(prefix, str) else _strings("prefix", prefix)
    if len(prefixes) != num:
        raise ConfigError(f"prefix: found {len(prefixes)}, accepted: one, or one for each text")
    return [LineOptions(each, beam_size, length_penalty, source_language) for each in prefixes]


def _check_count(name: str, value: int, model: LoadedModel | None) -> None:
    """Raises ConfigError unless a number is from 1 to the number of the model's beams."""
    most = model.translator.config.decode.beam_size if model else sys.maxsize
    if type(value) is not int or not 1 <= value <= most:
        limit = f"1 to {most}, the number of beams" if model else "1 or more"
        raise ConfigError(f"{name}: found {value!r}, accepted: {limit}")


def _strings(name: str, values: Iterable[str]) -> list[str]:
    """Returns values as a list. Raises ConfigError if one, or all in one, is not a string."""
    if isinstance(values, str):
        raise ConfigError(f"{name}: found a string, accepted: a list of strings")
    values = list(values)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ConfigError(f"{name}[{index}]: found {value!r}, accepted: a string")
    return values
