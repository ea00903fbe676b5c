"""A dry run says what each filter would drop from a sample, by the settings of each corpus."""
# SPDX-License-Identifier: Apache-2.0

import json

from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.data.prepare.dry_run import dry_run
from tests.making.made_up import english_sentences, translated, write_made_up


def test_a_dry_run_says_what_would_be_dropped_and_obeys_each_corpus(tmp_path):
    config = write_made_up(tmp_path)
    english = english_sentences()[:40]
    lines = [f"{translated(text, 'de')}\t{text}" for text in english]
    lines += [f"{text}\t{text.upper()}" for text in english[:10]]
    (tmp_path / "de.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = '[[corpus]]\nlanguage = "de"\nsource = "tsv:de.tsv"\nlicense = "x"\n'
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"{corpus}{corpus}[corpus.cleaning]\ncopied = false\n", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    found = list(dry_run(config, load_recipe(recipe)))
    assert sorted(tmp_path.iterdir()) == before
    first, second = (line for line in found if line.startswith("corpus "))
    assert first == "corpus 1 (tsv:de.tsv), de, train: of 50 sampled pairs, drops copied 20.0%"
    assert second == "corpus 2 (tsv:de.tsv), de, train: of 50 sampled pairs, drops none"
    samples = [line.split("\t") for line in found if line.startswith("  copied")]
    assert [sample[1] for sample in samples] == ["40", "41", "42"]
    assert samples[0][2:] == [english[0], english[0].upper()]


def test_a_language_of_a_corpus_has_settings_of_its_own(tmp_path):
    config = write_made_up(tmp_path)
    english = english_sentences()[:10]
    tags = ("de", "sr_Latn", "sr_Cyrl", "fr-CA")
    rows = [{"translation": {tag: text.upper(), "en": text}} for tag in tags for text in english]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "all.jsonl").write_text(content, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(
        """
        [[corpus]]
        language = "*"
        source = "jsonl:all.jsonl"
        license = "x"
        [corpus.cleaning]
        script = false
        swapped = false
        language = false
        sr.copied = false
        sr_Cyrl.copied = true
        fra.copied = false
        fra.script = true
        """,
        encoding="utf-8",
    )
    found = dry_run(config, load_recipe(tmp_path / "recipe.toml"))
    said = [line.split(", ") for line in found if line.startswith("corpus ")]
    assert {tag: drops for _, tag, _, drops in said} == {
        "de": "drops copied 100.0%",
        "sr_Latn": "drops none",
        "sr_Cyrl": "drops copied 100.0%",
        "fr": "drops none",
    }
