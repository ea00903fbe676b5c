"""The Beam pipeline: runs the pure functions of the local one on Apache Beam, for the same output.

Elements are keys, counts and paths of blocks; clean text is in `work`, which all machines share.
"""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import errno
import functools
import io
import logging
import os
import pathlib
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsDict, AsIter, AsSingleton, PValue
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from gshard_mt.data.prepare.beam import output, steps
from gshard_mt.data.prepare.beam.results import ERROR, read_error, read_results, write_result
from gshard_mt.data.prepare.drops import merge_tallies
from gshard_mt.data.prepare.held_out import merge_candidates
from gshard_mt.data.prepare.job import Job, Pipeline, PipelineOutput
from gshard_mt.data.prepare.samples import CorpusTag, StoredCalibration
from gshard_mt.data.prepare.selection import choose, gather_keys, merge_picked
from gshard_mt.data.prepare.subwords import sample_sizes
from gshard_mt.documents import in_one_line
from gshard_mt.errors import ConfigError, UserError, suggest
from gshard_mt.languages import merge_locales

RUNNERS = ("DataflowRunner", "DirectRunner", "FlinkRunner", "SparkRunner")

_NO_SPACE = re.compile(rf"\[Errno ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\]")


def beam_pipeline(runner: str, options: str = "") -> Pipeline:
    """Returns a pipeline that runs on Beam; `options` are Beam's own, as on a command line.

    Workers must see the data directory and the corpora under the driver's paths. Raises ConfigError
    for a runner or options that Beam doesn't have.
    """
    if runner not in RUNNERS:
        raise ConfigError(f"--runner: found {runner}{suggest(runner, RUNNERS)}")
    logging.getLogger("apache_beam").setLevel(
        logging.CRITICAL if runner == "DirectRunner" else logging.WARNING
    )
    parsed = _parse(runner, options)
    return functools.partial(_run, runner, parsed)


def _parse(runner: str, options: str) -> PipelineOptions:
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            parsed = PipelineOptions([f"--runner={runner}", *shlex.split(options)])
            parsed.get_all_options()
    except (SystemExit, ValueError) as error:
        lines = stderr.getvalue().strip().splitlines() or [str(error)]
        raise ConfigError(f"--beam_options: {lines[-1]}; see Apache Beam's own help") from None
    return parsed


def _run(runner: str, options: PipelineOptions, job: Job) -> PipelineOutput:
    job = job.from_anywhere()
    is_here = runner == "DirectRunner"
    try:
        # Given by name, DirectRunner would first try to download and start Prism.
        pipeline = beam.Pipeline(runner=FnApiRunner() if is_here else runner, options=options)
    except Exception as error:
        raise _no_start(runner, error) from None
    _build(pipeline, job)
    try:
        result = pipeline.run()
    except Exception as error:
        _raise_user_error(job, error)
        if is_here:  # the steps have run here, so it is a bug
            raise
        raise _no_start(runner, error) from None
    try:
        state = result.wait_until_finish() or result.state
        if state != "DONE":
            raise RuntimeError(f"{runner}: the pipeline ended as {state}")
    except Exception as error:
        _raise_user_error(job, error)
        raise
    return read_results(job.work)


def _no_start(runner: str, error: Exception) -> ConfigError:
    reason = in_one_line(error)
    return ConfigError(f"--runner={runner}: can't be started ({reason}); see --beam_options")


def _raise_user_error(job: Job, error: Exception) -> None:
    """Raises a user error if that is what happened."""
    if error_left := read_error(job.work):
        raise error_left from None
    if match := _NO_SPACE.search(str(error)):
        number = int(match[1])
        raise OSError(number, os.strerror(number)) from None


class _Step(beam.DoFn):
    """Yields what a function does; leaves a user error that it raises for the driver."""

    def __init__(self, function: Callable[..., Iterator[Any]], work: pathlib.Path):
        self.function = function
        self.work = work

    def process(self, element, *side_inputs):
        try:
            yield from self.function(element, *side_inputs)
        except UserError as error:
            write_result(error, ERROR, self.work)
            raise


class _Graph:
    """Builds transforms, named after the functions of `steps` and `output` that they apply."""

    def __init__(self, pipeline: beam.Pipeline, job: Job):
        self.pipeline = pipeline
        self.job = job._replace(keep_out=job.keep_out[:0], held_out={})  # goes to every step
        self.keep_out, self.held_out = job.keep_out, job.held_out

    def step(self, function: Callable[..., Iterator[Any]], *side_inputs: Any) -> beam.PTransform:
        return function.__name__ >> beam.ParDo(_Step(function, self.job.work), *side_inputs)

    def once(self, name: str, function: Callable[..., Any], *side_inputs: Any) -> AsSingleton:
        """Returns as a side input what `function` returns for side inputs alone."""
        start = self.pipeline | f"start {name}" >> beam.Create([None])
        step = _Step(lambda _, *values: iter([function(*values)]), self.job.work)
        return AsSingleton(start | name >> beam.ParDo(step, *side_inputs))

    def leave(self, name: str, records: PValue) -> None:
        """Writes records, which are in any order, for the driver."""
        every = records | f"all {name}" >> beam.combiners.ToList()
        every | f"write {name}" >> beam.Map(write_result, name, self.job.work)  # type: ignore[reportUnusedExpression]

    def sum(self, name: str, numbers: PValue) -> AsDict:
        return _by_key(numbers | f"sum {name}" >> beam.CombinePerKey(sum))


def _build(pipeline: beam.Pipeline, job: Job) -> None:
    graph = _Graph(pipeline, job)
    cleaned = _clean(graph)
    marked = _drop_duplicates(graph, cleaned)
    kept, held_out = _hold_out(graph, cleaned, marked)
    _encode(graph, kept, held_out)


def _clean(graph: _Graph) -> PValue:
    """Returns (language, block) of all splits."""
    corpora = (
        graph.pipeline
        | "corpora" >> beam.Create(list(enumerate(graph.job.recipe.entries)))
        | "spread corpora" >> beam.Reshuffle()
    )
    samples = corpora | graph.step(steps.sample, graph.job) | "keep samples" >> beam.Reshuffle()
    calibrations = samples | graph.step(steps.calibrate, AsIter(samples), graph.job)
    graph.leave("notes", calibrations | "notes of calibrations" >> beam.MapTuple(_notes))
    cleaned = (
        corpora
        | graph.step(steps.read)
        | "spread raw blocks" >> beam.Reshuffle()
        | graph.step(steps.clean, _by_key(calibrations), graph.job)
        | "keep clean blocks" >> beam.Reshuffle()  # a runner might clean again for each use
    )
    tags = cleaned | "tags" >> beam.Map(lambda cleaned: cleaned.tag) | beam.Distinct()
    graph.leave("tags", tags)
    graph.leave("clean_drops", _sum_drops("clean", cleaned | graph.step(steps.count_cleaned)))
    languages = graph.once("languages", lambda tags: merge_locales(sorted(tags)), AsIter(tags))
    return cleaned | graph.step(steps.name_blocks, languages)


def _drop_duplicates(graph: _Graph, blocks: PValue) -> PValue:
    """Returns the training blocks as MarkedBlocks."""
    train = blocks | "training blocks" >> beam.Filter(lambda each: each[1].split == "train")
    sizes = train | "sizes" >> beam.Map(lambda each: (each[0], each[1].num_pairs))
    found = (
        train
        | graph.step(steps.deal_rows, graph.sum("sizes", sizes))
        | "rows that meet" >> beam.GroupByKey()
        | graph.step(steps.find_in_part, graph.job)
    )
    by_block = train | "by block" >> beam.Map(lambda each: ((each[0], each[1].first_id), each[1]))
    return (
        {"block": by_block, "duplicates": found}
        | "marks" >> beam.CoGroupByKey()
        | graph.step(steps.mark_duplicates)
    )


def _hold_out(graph: _Graph, blocks: PValue, marked: PValue) -> tuple[PValue, PValue]:
    """Returns MarkedBlocks with held-out overlap marked, and held-out KeyedPairs by Split."""
    job = graph.job
    given = (
        blocks
        | "given blocks" >> beam.Filter(lambda each: each[1].split != "train")
        | "by split" >> beam.Map(lambda each: ((each[0], each[1].split), each[1]))
        | "given splits" >> beam.GroupByKey()
        | graph.step(steps.read_given)
    )
    num_pairs = marked | "unique" >> beam.Map(
        lambda marked: (marked.language, int((marked.drop == 0).sum()))
    )
    found = (
        marked
        | graph.step(steps.find_candidates, job)
        | "merge candidates"
        >> beam.CombinePerKey(functools.partial(merge_candidates, seed=job.config.seed))
    )
    given_keys = given | "given keys" >> beam.Map(lambda each: (each[0], each[1].keys["english"]))
    choice = graph.once(
        "choose",
        functools.partial(choose, job.config, earlier=graph.held_out),
        _by_key(found),
        graph.sum("unique", num_pairs),
        _by_key(given_keys),
    )
    picked = (
        marked
        | graph.step(steps.pick, choice, job)
        | "merge picked"
        >> beam.CombinePerKey(functools.partial(merge_picked, seed=job.config.seed))
        | graph.step(steps.take_wanted, choice)
    )
    held_out = (given, picked) | "held out" >> beam.Flatten()
    sentences = held_out | "sentences" >> beam.MapTuple(lambda key, pairs: (key, pairs.sentences()))
    graph.leave("references", sentences)
    held_out_keys = AsIter(held_out | "held-out keys" >> beam.Map(lambda each: each[1].keys))
    keys = graph.once("gather keys", gather_keys, held_out_keys, choice, graph.keep_out)
    kept = _limit(graph, marked | graph.step(steps.drop_overlap, keys))
    graph.leave("select_drops", _sum_drops("select", kept | graph.step(steps.count_selected)))
    return kept, held_out


def _limit(graph: _Graph, marked: PValue) -> PValue:
    """Returns the MarkedBlocks with those pairs marked that are over a corpus's `max_pairs`."""
    most = graph.job.recipe.max_pairs()
    if not most:
        return marked
    layouts = _by_key(
        marked
        | "count before max_pairs" >> graph.step(output.count_kept)
        | "blocks before max_pairs" >> beam.GroupByKey()
        | "lay out before max_pairs" >> graph.step(output.lay_out)
    )
    return marked | graph.step(output.drop_surplus, layouts, most)


def _encode(graph: _Graph, kept: PValue, held_out: PValue) -> None:
    """Trains the subwords and writes the shards."""
    job = graph.job
    layouts = _by_key(
        kept
        | graph.step(output.count_kept)
        | "blocks of a language" >> beam.GroupByKey()
        | graph.step(output.lay_out)
    )
    sizes = graph.once(
        "sample sizes",
        lambda layouts: sample_sizes(
            {name: layouts[name].num_pairs for name in sorted(layouts)}, job.config
        ),
        layouts,
    )
    trained: Any = (
        kept
        | graph.step(output.sample_text, layouts, sizes)
        | "all of the sample" >> beam.GroupByKey()
        | graph.step(output.train, job)
    )
    tokenizer = AsSingleton(trained)
    train = (
        kept
        | graph.step(output.deal_shards, layouts)
        | "blocks of a shard" >> beam.GroupByKey()
        | graph.step(output.write_train, tokenizer, job)
    )
    shards = (train, held_out | graph.step(output.write_held_out, tokenizer, job))
    graph.leave("shards", shards | "shards" >> beam.Flatten())


def _notes(key: CorpusTag, stored: StoredCalibration) -> tuple[int, str, list[str]]:
    return *key, stored.notes


def _by_key(values: Any) -> AsDict:
    return AsDict(values)


def _sum_drops(name: str, tallies: PValue) -> PValue:
    return tallies | f"sum {name} drops" >> beam.CombinePerKey(merge_tallies)
