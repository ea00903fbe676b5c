"""What /metrics says after requests of every kind, as Prometheus reads it."""
# SPDX-License-Identifier: Apache-2.0

import pytest
from prometheus_client import parser

from gshard_mt.serve.limits import Limits
from tests.serve.serving import (
    Served,
    Translator,
    connect,
    in_threads,
    post,
    receive,
    serving,
    wait_until,
)


@pytest.fixture
def translator() -> Translator:
    return Translator()


def scrape(served: Served) -> dict[str, float]:
    """Every sample by its name and labels, e.g. `gshard_requests_total /translate 200`."""
    answer = served.ask("/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain; version")
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in parser.text_string_to_metric_families(answer.content)
        for sample in family.samples
    }


def requests(found: dict[str, float]) -> dict[str, float]:
    name = "gshard_requests_total "
    return {key.removeprefix(name): found[key] for key in found if key.startswith(name)}


def test_requests_are_counted_by_path_and_status(translator):
    with serving(translator) as served:
        served.ask("/health")
        served.translate("a")
        served.translate("b")
        served.translate("boom")
        served.ask(f"http://127.0.0.1:{served.port}/translate", {"text": 1})
        served.ask("/translate")
        for number in range(20):
            served.ask(f"/unknown/{number}")
        with connect(served.port, b"HELO there\r\n\r\n") as client:
            assert receive(client).status == 400
        found = requests(scrape(served))
        del found["/health 200"]  # as often as the test waited for the service
        found.pop("/health 503", None)
        assert found == {
            "/translate 200": 2,
            "/translate 405": 1,
            "/translate 422": 1,
            "/translate 500": 1,
            "other 400": 1,
            "other 404": 20,
        }
        assert requests(scrape(served))["/metrics 200"] == 1


def test_a_client_that_leaves_is_counted_as_such(translator):
    with serving(translator, Limits(probe_seconds=0.05)) as served:
        translator.hold()
        connect(served.port, post(b'{"text": "a"}')).close()
        wait_until(lambda: requests(scrape(served)).get("/translate 499") == 1)


def test_sentences_and_batches_are_counted_and_timed(translator):
    with serving(translator) as served:
        served.translate("a", "endless b", "c", "d", "endless e")  # a batch has 4
        served.translate("boom")
        served.ask("/translate", {"text": 1})
        found = scrape(served)
    assert found["gshard_sentences_total"] == 5
    assert found["gshard_truncated_sentences_total"] == 2
    assert found["gshard_batch_sentences_sum"] == 5
    assert found["gshard_batch_sentences_count"] == found["gshard_batch_seconds_count"] == 2
    assert found["gshard_batch_sentences_bucket 1.0"] == 1
    assert found["gshard_batch_sentences_bucket 4.0"] == 2
    assert found["gshard_translate_seconds_count"] == 1
    assert found["gshard_translate_seconds_bucket +Inf"] == 1
    assert found["gshard_translate_seconds_sum"] >= found["gshard_batch_seconds_sum"] > 0


def test_what_waits_and_the_state_are_those_of_the_moment(translator):
    translator.hold()
    with serving(translator, awaits_ready=False) as served:
        threads = in_threads(1, lambda _: served.translate("a", "b"))
        wait_until(lambda: served.batcher.num_waiting == 2)
        found = scrape(served)
        assert (found["gshard_ready"], found["gshard_waiting_sentences"]) == (0, 2)
        translator.go_on()
        threads[0].join()
        found = scrape(served)
        assert (found["gshard_ready"], found["gshard_waiting_sentences"]) == (1, 0)


def test_two_services_in_a_process_count_apart(translator):
    with serving(translator) as one, serving(translator) as other:
        one.translate("a")
        assert scrape(one)["gshard_sentences_total"] == 1
        assert scrape(other)["gshard_sentences_total"] == 0


def test_every_metric_has_a_prefix_a_unit_and_a_sentence(translator):
    with serving(translator) as served:
        text = served.ask("/metrics").content
    families = list(parser.text_string_to_metric_families(text))
    own = [each for each in families if not each.name.startswith("process_")]
    assert own and all(each.name.startswith("gshard_") for each in own)
    for family in own:
        assert family.documentation.endswith(".") or family.name.endswith("_created")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_sentences"))
