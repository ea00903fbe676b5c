"""Commands that make rows of lines with a model: window by window, in shards, resumable."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.progress import Done, Progress, describe_inputs
from gshard_mt.cli.pruning import define_pruning
from gshard_mt.cli.startup.start import start_crew
from gshard_mt.cli.text_output import is_regular, open_output
from gshard_mt.config.records import Config
from gshard_mt.console import Bar
from gshard_mt.errors import ConfigError

if TYPE_CHECKING:
    from gshard_mt.cli.text_input import InputShard, Source
    from gshard_mt.decode.crew import Crew
    from gshard_mt.decode.translate import Translator
    from gshard_mt.run.pruning import Pruning


class LineFlags(NamedTuple):
    """The flags that such commands share."""

    verb: str  # what happens to lines
    read_folder: Callable[[], pathlib.Path]
    read_pruning: "Callable[..., Pruning | None]"
    set_decode: Callable[[Config], Config]
    step: flags.FlagHolder
    language: flags.FlagHolder
    input: flags.FlagHolder
    output: flags.FlagHolder
    shard: flags.FlagHolder
    resume: flags.FlagHolder
    interactive: flags.FlagHolder


class Model(NamedTuple):
    """The model that the flags name, before it is loaded."""

    folder: pathlib.Path
    config: Config
    pruning: "Pruning | None"


class LineWindow(NamedTuple):
    """Lines that are read together."""

    numbers: list[int]  # of the lines in the whole input, from 1
    stride: int  # from the number of a line to that of the next
    lines: list[Any]  # as the job parses them
    on_progress: Callable[[int], Any]


class Rows(NamedTuple):
    """What is written of a window."""

    rows: list[str]
    too_long: list[int]  # the numbers of lines that were too long
    num_split: int = 0  # lines that were split into sentences


class LineJob(NamedTuple):
    """What a command does with its lines."""

    window_size: int  # lines
    task: dict[str, Any]  # what determines the output, by name, besides input, model and shard
    # Makes, of a loaded model, what makes the rows of a window.
    make_writer: "Callable[[Translator], Callable[[LineWindow], Rows]]"
    # Makes of a line and its place, file:line, what a window has in place of the line.
    parse: Callable[[str, str], Any] = lambda line, where: line


def define_flags(verb: str) -> LineFlags:
    """Defines the flags; `verb`, such as `translate`, tells what happens to lines."""
    return LineFlags(
        verb=verb,
        read_folder=cli_flags.define_model(),
        read_pruning=define_pruning(),
        set_decode=cli_flags.define_decode(),
        step=cli_flags.define_step(),
        language=flags.DEFINE_string(
            "source_language",
            None,
            "Language code of the input, e.g. de (or deu, de-AT, deu_Latn); refused if the model "
            "was not trained on it.",
        ),
        input=flags.DEFINE_multi_string(
            "input",
            [],
            f"UTF-8 text file to {verb}, plain or compressed, repeatable (default: standard "
            "input).",
        ),
        output=flags.DEFINE_string("output", None, "File to write (default: standard output)."),
        shard=flags.DEFINE_string(
            "shard",
            "1/1",
            f"I/N: {verb} only lines I, I + N, I + 2N ..., so that N machines can share the "
            "input; what is written of a line does not depend on it.",
        ),
        resume=flags.DEFINE_bool(
            "resume",
            False,
            "Continue the --output that an earlier start of the same command has begun. The file "
            "OUTPUT.progress says how much of it is done.",
        ),
        interactive=flags.DEFINE_bool(
            "interactive",
            False,
            "Answer each line at once, by itself and without a progress bar; the default where "
            "standard input is a terminal.",
        ),
    )


def read_model(line_flags: LineFlags) -> Model:
    """Returns the model that the flags name. Raises ConfigError, CheckpointError or DataError."""
    from gshard_mt.run.exported import read_trained
    from gshard_mt.run.pruning import pruned

    folder = line_flags.read_folder()
    run = read_trained(folder)
    pruning = line_flags.read_pruning(folder, run, line_flags.step.value)
    if line_flags.language.value:
        (pruned(run, pruning) if pruning else run).check_language(line_flags.language.value)
    return Model(folder, line_flags.set_decode(run.config), pruning)


def write_rows(line_flags: LineFlags, model: Model, job: LineJob) -> Done:
    """Writes the rows of every window; returns what is done, by earlier starts, too."""
    from gshard_mt.cli.text_input import check_text, open_sources, read_shard, read_windows

    shard = read_shard(line_flags.shard.value)
    with start_crew(model.folder, model.config) as crew, contextlib.ExitStack() as files:
        # Refused before the model is loaded.
        sources = open_sources(line_flags.input.value, files, job.parse)
        output = open_output(line_flags.output.value, sources, files)
        is_resumed = line_flags.resume.value
        task = _describe_task(model, job, shard)
        progress = _open_progress(line_flags, sources, output, task) if is_resumed else None
        check_text(sources)
        translator = _load(crew, model, line_flags.step.value, progress)
        if translator is None:
            return Done()
        write = job.make_writer(translator)
        if not progress and is_regular(output) and line_flags.output.value:
            output.truncate(0)
        done = progress.done if progress else Done()
        is_terminal = any(source.file.isatty() for source in sources)
        is_interactive = line_flags.interactive.value or is_terminal
        if is_terminal:
            print(f"enter a line to {line_flags.verb} it; ctrl-D ends", file=sys.stderr)
        options = {"initial": done.num_lines, "mininterval": 1.0, "disable": is_interactive}
        bar = files.enter_context(Bar(line_flags.verb, "line", **options))
        window_size = 1 if is_interactive else job.window_size
        for lines in read_windows(sources, window_size, shard, done.num_lines):
            numbers = [shard.line_number(done.num_lines + k) for k in range(len(lines))]
            window = LineWindow(numbers, shard.count, lines, bar.update)
            rows, too_long, num_split = write(window)
            text = "".join(rows).encode()  # UTF-8 whatever the locale
            done = done.add(len(lines), too_long, num_split)
            if progress:
                progress.add(text, done)
            else:
                output.write(text)
                output.flush()
        if progress:
            progress.finish()
    return done


def _describe_task(model: Model, job: LineJob, shard: "InputShard") -> dict[str, Any]:
    """Returns what determines the output, by name, apart from the inputs and the checkpoint."""
    decode, pruning = dataclasses.asdict(model.config.decode), model.pruning
    return {
        **job.task,
        "--shard": str(shard),
        **{f"decode.{key}": value for key, value in decode.items()},
        "lines of a window": job.window_size,
        "experts that are kept": pruning and {k: list(v) for k, v in pruning.kept.items()},
    }


def _open_progress(
    line_flags: LineFlags, sources: Sequence["Source"], output: BinaryIO, task: dict[str, Any]
) -> Progress:
    """Returns the progress of the output. Raises ConfigError as `Progress`."""
    path, inputs = line_flags.output.value, line_flags.input.value
    if not (path and inputs):
        missing = "--input" if path else "--output"
        raise ConfigError(
            f"--resume: found without {missing}, accepted: with --output FILE and --input FILE"
        )
    files = [(path, output), *((each.name, each.file) for each in sources)]
    for name, file in files:
        if not is_regular(file):
            raise ConfigError(
                f"--resume: found {name}, which is no regular file; accepted: files on a disk"
            )
    return Progress(path, output, task | describe_inputs(inputs), line_flags.verb)


def _load(crew: "Crew", model: Model, step: str, progress: Progress | None) -> "Translator | None":
    """Returns the model; None if the output is finished, which is then said.

    Raises ConfigError if the output was begun with another model.
    """
    from gshard_mt.run.checkpoints import AVERAGE
    from gshard_mt.run.exported import is_export

    folder, config, pruning = model
    if not progress:
        return crew.load(folder, config, step, pruning)
    (saved, checksum), asked = _saved(folder, config), step
    # A run may have removed the checkpoint of a finished output; an export has only its own.
    may_be_gone = progress.is_finished and not progress.has_checkpoint(saved)
    if progress.is_begun and (is_export(folder) or not may_be_gone):
        step = progress.choose_step(step, saved)
        progress.check_checkpoint(step, checksum(step))
    if progress.is_begun:
        print(progress.describe(), file=sys.stderr)
    if progress.is_finished:
        return None
    translator = crew.load(folder, config, step, pruning)
    chosen = step if step == AVERAGE else str(translator.step)
    progress.begin(asked, translator.name, checksum(chosen))
    return translator


def _saved(folder: pathlib.Path, config: Config) -> tuple[list[int], Callable[[str], str]]:
    """Returns the steps of a run or an exported model, and what gives a step's checksum."""
    from gshard_mt.run.checkpoints import Checkpoints
    from gshard_mt.run.exported import is_export, read_export

    if is_export(folder):
        model = read_export(folder)
        return [model.step], lambda step: model.checksum()
    checkpoints = Checkpoints(folder, best_by=config.train.best_by)
    return checkpoints.steps(), checkpoints.params_checksum
