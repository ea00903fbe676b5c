"""The model card: the `README.md` of an export, whose first lines the Hugging Face Hub reads."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import yaml

from gshard_mt.errors import ConfigError
from gshard_mt.export.description import Export
from gshard_mt.export.evaluations import (
    METRICS,
    Evaluated,
    list_signatures,
    read_evaluations,
    tabulate_scores,
)
from gshard_mt.export.training_data import tabulate_corpora, tabulate_languages
from gshard_mt.languages import base_language, source_language
from gshard_mt.report.tables import escape
from gshard_mt.run.journal import read_mixtures

NAME = "README.md"
_LIBRARIES = {"safetensors": "gshard-mt", "ctranslate2": "ctranslate2"}  # by format
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # such as cc-by-4.0


def check_license(license: str) -> None:
    """Raises ConfigError unless this is empty or has the form of the Hub's licence identifiers."""
    if license and not _LICENSE.fullmatch(license):
        raise ConfigError(
            f"--license: found {license!r}, accepted: an identifier of the Hugging Face Hub in "
            "small letters, like cc-by-4.0; huggingface.co/docs/hub/repositories-licenses has all"
        )


def write_card(folder: pathlib.Path, made: Export, form: str, license: str, **more: Any) -> None:
    """Writes the card of a format, `safetensors` or `ctranslate2`.

    The templates use the values in `more`, too; of these, `numbers` is the format of the weights.
    The card says so if there is no license (""), no evaluation of the step or no prepared data.
    Raises DataError for an evaluation that can't be read.
    """
    # Those of the whole model say nothing about a pruned one.
    scored = [] if made.pruning else read_evaluations(made.workdir, made.name)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["escaped"] = escape
    content = _front_matter(made, form, license, scored)
    text = environment.get_template(f"{form}.md.jinja").render(
        front_matter=yaml.safe_dump(content, sort_keys=False, allow_unicode=True),
        name=_name(made),
        made=made,
        config=made.run.config,
        license=license,
        languages=tabulate_languages(made.run),
        corpora=tabulate_corpora(made.run),
        mixture_changes=[each.last_step for each in read_mixtures(made.workdir)],
        scores=tabulate_scores(scored) if scored else None,
        signatures=list_signatures(scored),
        **more,
    )
    (folder / NAME).write_text(text, encoding="utf-8")


def _front_matter(
    made: Export, form: str, license: str, scored: Sequence[Evaluated]
) -> dict[str, Any]:
    """Returns the keys that the Hub reads (huggingface.co/docs/hub/model-cards)."""
    codes = {base_language(source_language(pair)) for pair in made.run.train_pairs}
    experts = ["mixture-of-experts"] if made.run.config.model.moe.num_experts else []
    content: dict[str, Any] = {"language": [*sorted(codes), "en"]}
    if license:
        content["license"] = license
    content["library_name"] = _LIBRARIES[form]
    content["pipeline_tag"] = "translation"
    content["tags"] = ["translation", *experts, form]
    if scored:
        results = [_result(each) for each in scored]
        content["model-index"] = [{"name": _name(made), "results": results}]
    return content


def _result(each: Evaluated) -> dict[str, Any]:
    """Returns an entry of the Hub's `model-index`."""
    name = f"{each.test_set}, {each.language} to English"
    return {
        "task": {"type": "translation", "name": "Translation"},
        # The Hub takes results of equal type and config for those of one data set.
        "dataset": {"type": each.test_set, "name": name, "config": each.pair},
        "metrics": [
            {
                "type": metric,
                "value": each.scores[metric],
                "name": METRICS[metric],
                "args": {"signature": each.signatures[metric]},
                "verified": False,  # by the Hub
            }
            for metric in METRICS
        ],
    }


def _name(made: Export) -> str:
    """Returns the name of the run directory, without the folders that it is in."""
    return made.workdir.resolve().name
