"""The page of an evaluation: its sections, escaped text, and no need for other files."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from gshard_mt.config.records import Config
from gshard_mt.evaluate import report as reports
from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.reliability import Reliability
from gshard_mt.evaluate.report import Report
from gshard_mt.evaluate.samples import Samples, ScoredSentence
from gshard_mt.evaluate.scores import Comparison, Score
from gshard_mt.report import page as pages
from gshard_mt.report import pictures
from gshard_mt.report.tables import Table
from gshard_mt.run.directory import Origin, Run
from gshard_mt.run.journal import History
from tests.run.made_lines import dev_lines, routing_line, train_line

SCORES = {
    "de-en": Score(500, 23.44, 22.1, 24.8, 45.6),
    "fr-en": Score(500, 9.5, 8.0, 11.0, 50.0),
    "hr-en": Score(100, 10.0, 8.0, 12.0, 30.0),
}
TRAIN_PAIRS = {"hr-en": 900, "de-en": 12345, "fr-en": 2000}
COMPARISONS = {"de-en": Comparison(20.0, 3.44, 0.001), "fr-en": Comparison(10.0, -0.5, 0.4)}
EVIL = '<script>alert("&amp;")</script><img src="http://example.org/x.png" onerror=alert(1)>'
SAMPLES = {
    "de-en": Samples(
        best=(ScoredSentence(EVIL, EVIL, "", 87.65),),
        worst=(ScoredSentence("שלום עולם", "Hello, world", "O", 0.0),),
    )
}
HISTORY = History(
    train=(train_line(10), train_line(20)),
    dev=(*dev_lines(10), *dev_lines(20)),
    routing=(routing_line(20), routing_line(20, "decoder")),
)
SECTIONS = ["scores", "size", "baseline", "learning", "languages", "routing", "sentences"]
SECTIONS += ["terms"]


class Page(HTMLParser):
    """Every tag with its attributes, and the text within tags."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self) -> list[str | None]:
        return [section["id"] for section in self.all("section")]


def make_report(scores=SCORES, comparisons=COMPARISONS, history=HISTORY, samples=SAMPLES) -> Report:
    train_pairs = {pair: TRAIN_PAIRS[pair] for pair in scores}
    rows = tables.make_rows(scores, train_pairs, comparisons)
    signatures = {"bleu": "nrefs:1|tok:13a", "chrf": "x"}
    table = tables.ScoreTable(20, "test", 12345678, 2345678, signatures, rows)
    run = Run(Config(), pathlib.Path("data"), "fingerprint", train_pairs)
    return Report("my <b>run</b>", run, table, history, samples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("eval") / "20" / "test"
    assert reports.write(make_report(), folder) == folder / "report.html"
    return folder


@pytest.fixture
def quick_pictures(monkeypatch) -> None:
    """Pictures are chosen, but not painted."""
    monkeypatch.setattr(
        pictures, "_render", lambda figure: pictures.Picture(b"<svg/>", b"png", 9, 9)
    )


@pytest.fixture(scope="module")
def page(folder) -> Page:
    return Page(folder / "report.html")


def test_every_section_is_shown_and_linked(page):
    assert page.sections == SECTIONS
    assert [link["href"] for link in page.all("a")] == [f"#{name}" for name in SECTIONS]


def test_every_picture_is_in_the_page_and_a_png_next_to_it(folder, page):
    names = {path.stem for path in (folder / "pictures").iterdir()}
    assert names == {
        *("bleu_by_size", "delta_bleu", "learning_curves", "dev_nll", "sampling_shares"),
        *("lost_to_capacity", "experts_encoder_0", "experts_decoder_0"),
    }
    for path in (folder / "pictures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
    sources = [str(image["src"]) for image in page.all("img")]
    assert len(sources) == len(names)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(image["alt"] for image in page.all("img"))


def test_the_page_loads_no_other_file(page):
    loaded = [
        value
        for tag, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "data", "action", "poster")
        if not str(value).startswith(("data:", "#"))
    ]
    assert not loaded and not page.all("link") and not page.all("iframe")
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert str(policy).startswith("default-src 'none'; img-src data:;")
    parts = pathlib.Path(pages.__file__).parent.glob("page.[chj]*")
    text = "".join(path.read_text("utf-8") for path in parts)
    assert "<style>" in text and "border-collapse" in text and "addEventListener" in text
    assert "://" not in text and "url(" not in text and "@import" not in text


def test_a_sentence_with_html_is_escaped(folder, page):
    assert len(page.all("script")) == 1  # the page's own
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.texts.count(EVIL) == 2
    assert "Evaluation of my <b>run</b>: test, step 20" in page.texts
    assert EVIL not in (folder / "report.html").read_text(encoding="utf-8")


def test_texts_have_their_direction_and_language(page):
    texts = [(text["dir"], text["lang"]) for text in page.all("dd") if "lang" in text]
    assert texts == [("auto", "de"), ("auto", "en"), ("auto", "en")] * 2
    assert "שלום עולם" in page.texts and "87.7" in page.texts
    assert len(page.all("details")) == 1


def test_the_table_of_scores_is_that_of_the_terminal(page):
    row = "de-en German 12,345 high 500 23.4 22.1-24.8 45.6 20.0 +3.4 0.0010".split()
    assert "|".join(row) in "|".join(page.texts)
    heads = page.all("th")[:11]
    assert [bool(head.get("class")) for head in heads].count(False) == 3  # text, not numbers


def test_averages_and_signatures_are_below(page):
    assert page.texts.count("average") == 1  # each bucket has one language
    assert "14.3" in page.texts  # the mean BLEU
    assert "nrefs:1|tok:13a" in page.texts


@pytest.mark.parametrize(
    ("report", "missing"),
    [
        (make_report(comparisons={}), {"baseline"}),
        (make_report(history=History(train=HISTORY.train, dev=HISTORY.dev)), {"routing"}),
        (make_report(history=History(train=HISTORY.train, routing=HISTORY.routing)), set()),
        (make_report(history=History()), {"learning", "routing"}),
        (make_report(samples={}), {"sentences"}),
        (make_report(scores={"de-en": SCORES["de-en"]}), {"size"}),
        (
            make_report({"de-en": SCORES["de-en"]}, {}, History(), {}),
            {"size", "baseline", "learning", "languages", "routing", "sentences"},
        ),
    ],
    ids=["baseline", "routing", "dev", "history", "samples", "languages", "everything"],
)
def test_a_section_without_content_is_left_out(report, missing, tmp_path, quick_pictures):
    path = reports.write(report, tmp_path)
    assert Page(path).sections == [name for name in SECTIONS if name not in missing]


def test_the_page_says_how_it_came_about_without_the_folders_of_a_machine(tmp_path, quick_pictures):
    command = "gshard-eval --workdir=/home/me/run --testset 'de-en=/home/me/a b.tsv'"
    about = reports.describe(command, HISTORY, 20)
    text = " ".join(Page(reports.write(make_report()._replace(about=about), tmp_path)).texts)
    assert " UTC with gshard-eval --workdir=run --testset 'de-en=a b.tsv'." in text
    assert "Machine: " in text and "8 devices" in text and "/home" not in text
    line = {"target_tokens": 1000, "seconds": 60.0, "compile_seconds": 15.0}
    lines = [{"step": step, **line} for step in (10, 20, 30)]
    about = reports.describe("", History(train=tuple(lines)), 20)
    assert about[0].endswith(" UTC.")
    assert about[2] == "Trained on 2,000 target tokens in 1.5 minutes of steps."


def test_reliability_is_shown_where_there_is_a_calibration(tmp_path, quick_pictures):
    table = Table(["confidence"], [["80% to 90%"]])
    report = make_report()._replace(reliability=Reliability(table, 0.123, 0.5))
    found = Page(reports.write(report, tmp_path))
    assert "reliability" in found.sections and "80% to 90%" in found.texts
    assert any("calibration error 0.123" in text for text in found.texts)


def test_the_page_says_which_checkpoint_the_parameters_began_with(tmp_path, quick_pictures):
    report = make_report()
    path = reports.write(report, tmp_path)
    assert "Began with" not in path.read_text(encoding="utf-8")
    run = report.run._replace(origin=Origin("/home/someone/parent", "average", "0badcafe"))
    text = reports.write(report._replace(run=run), tmp_path).read_text(encoding="utf-8")
    assert "Began with the parameters of parent@average." in text and "/home" not in text


def test_pictures_of_an_earlier_evaluation_are_deleted(tmp_path, quick_pictures):
    reports.write(make_report(), tmp_path)
    reports.write(make_report(history=History()), tmp_path)
    names = {path.stem for path in (tmp_path / "pictures").iterdir()}
    assert names == {"bleu_by_size", "delta_bleu", "sampling_shares"}


def test_the_same_evaluation_is_the_same_page(folder, tmp_path):
    path = reports.write(make_report(), tmp_path)
    assert path.read_bytes() == (folder / "report.html").read_bytes()


def test_importing_evaluate_imports_neither_matplotlib_nor_jinja2():
    code = (
        "import sys; import gshard_mt.evaluate.evaluate; "
        "assert not {'matplotlib', 'jinja2'} & {name.split('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
