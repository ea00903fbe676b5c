"""The service over real sockets: good clients are answered whatever the bad ones do."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import json
import re
import socket
import time
import tracemalloc

import pytest

from gshard_mt.decode.translation import LineOptions, Translation
from gshard_mt.errors import ConfigError
from gshard_mt.serve.limits import Limits
from gshard_mt.serve.service import address_of, open_socket
from tests.decode.test_sentences import splitter
from tests.serve.serving import (
    CURVE,
    SECONDS,
    Answer,
    Translator,
    connect,
    in_threads,
    post,
    receive,
    serving,
    wait_until,
)

HASTY = Limits(client_seconds=1.0)


@pytest.fixture
def translator() -> Translator:
    return Translator()


def refused(answer: Answer, status: int) -> str:
    """The one line of an error."""
    assert answer.status == status, answer
    assert answer.content.keys() == {"error"}
    line = answer.content["error"]
    assert line and "\n" not in line
    return line


def test_translations_come_back_in_order(translator):
    with serving(translator) as served:
        answer = served.translate("eins", "", "zwei")
        assert answer.status == 200 and answer.content == {"translations": ["snie", "", "iewz"]}
        answer = served.ask("/translate", {"text": "<b>ä</b>", "source_language": "de"})
        assert answer.content == {"translations": [">b/<ä>b<"]}
        assert served.translate().content == {"translations": []}


def test_many_clients_at_once_get_their_own(translator):
    answers: dict[int, list[Answer]] = {}

    def client(number: int) -> None:
        texts = [[f"{number}/{each}/{part}" for part in range(each)] for each in range(6)]
        answers[number] = [served.translate(*each) for each in texts]

    with serving(translator) as served:
        for thread in in_threads(24, client):
            thread.join(SECONDS)
    for number in range(24):
        for each, answer in enumerate(answers[number]):
            expected = [f"{number}/{each}/{part}"[::-1] for part in range(each)]
            assert answer.content == {"translations": expected}


def test_health_and_languages(translator):
    translator.hold()
    with serving(translator, awaits_ready=False) as served:
        answer = served.ask("/health")
        assert answer.status == 503 and answer.content["state"] == "warming up"
        assert answer.content["ready"] is False
        translator.go_on()
        wait_until(lambda: served.ask("/health").status == 200)
        found = served.ask("/health").content
        assert (found["ready"], found["step"], found["num_languages"]) == (True, 7, 3)
        assert (found["num_waiting"], found["max_waiting"]) == (0, 8192)
        assert (found["max_nbest"], found["has_confidence"]) == (4, True)
        languages = served.ask("/languages").content["languages"]
        assert languages[0] == {"code": "de", "name": "German"} and len(languages) == 3


def test_the_page_needs_nothing_else_and_inserts_text_as_text(translator):
    with serving(translator) as served:
        answer = served.ask("/")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?://|//\w|innerHTML|insertAdjacent|document\.write", answer.content)
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert answer.content.count("<script>") == 1


def test_wrong_paths_and_methods_are_told_the_right_ones(translator):
    with serving(translator) as served:
        assert "POST /translate" in refused(served.ask("/translat"), 404)
        assert "POST /translate" in refused(served.ask("/translate/", {"text": "a"}), 404)
        wrong = served.ask("/translate")
        assert "found GET, accepted: POST" in refused(wrong, 405)
        assert wrong.headers["allow"] == "POST"
        refused(served.ask("/health", {}, "DELETE"), 405)
        assert "not JSON" in refused(served.ask("/translate", b"text=a"), 400)
        assert "did you mean de?" in refused(
            served.ask("/translate", {"text": "a", "source_language": "dee"}), 422
        )
        with connect(served.port, b"HELO there\r\n\r\n") as client:
            assert "HTTP/1.1" in refused(receive(client), 400)


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(translator):
    with serving(translator) as served, connect(served.port, post(b"{", 10**7)) as client:
        assert "found 10000000 bytes, accepted: at most 1048576" in refused(receive(client), 413)


def test_a_body_without_an_end_is_not_held_in_memory(translator):
    chunk = b"10000\r\n%s\r\n" % (b" " * 0x10000)
    head = b"POST /translate HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(translator) as served, connect(served.port, head) as client:
        tracemalloc.start()
        try:
            for _ in range(160):  # 10 MiB
                client.sendall(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert "found more than 1048576 bytes" in refused(receive(client), 413)
        assert peak < 5 * 2**20
        client.sendall(b"0\r\n\r\n" + post(b'{"text": "ab"}'))  # the connection is as good as new
        assert receive(client).content == {"translations": ["ba"]}


def test_a_body_that_never_ends_is_cut_off_after_its_refusal(translator):
    chunk = b"100\r\n%s\r\n" % (b" " * 0x100)
    head = b"POST /translate HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    limits = Limits(client_seconds=1.0, max_body_bytes=1000)
    with serving(translator, limits) as served, connect(served.port, head + 4 * chunk) as client:
        refused(receive(client), 413)
        end = time.monotonic() + SECONDS
        with pytest.raises(OSError):
            while time.monotonic() < end:
                client.sendall(chunk)
                time.sleep(0.05)


def test_a_full_queue_is_503_with_a_time_to_come_back(translator):
    answers: list[Answer] = []
    with serving(translator, Limits(max_waiting=4)) as served:
        translator.hold()
        first = in_threads(1, lambda _: answers.append(served.translate("a")))
        wait_until(lambda: ["a"] in translator.batches)
        second = in_threads(1, lambda _: answers.append(served.translate("b", "c", "d")))
        wait_until(lambda: served.batcher.num_waiting == 3)
        full = served.translate("e", "f")
        assert "found 3 sentences waiting, accepted: 4" in refused(full, 503)
        assert int(full.headers["retry-after"]) >= 1
        assert served.ask("/health").content["num_waiting"] == 3
        translator.go_on()
        for thread in first + second:
            thread.join(SECONDS)
    assert [answer.status for answer in answers] == [200, 200]


def test_a_request_that_takes_too_long_is_504_and_leaves_the_queue(translator):
    with serving(translator, Limits(request_seconds=0.3)) as served:
        translator.hold()
        assert "within 0.3 seconds" in refused(served.translate(*"abcdef"), 504)
        assert served.batcher.num_waiting == 0
        translator.go_on()
        assert served.translate("ab").content == {"translations": ["ba"]}


def test_slow_clients_are_cut_off_and_hold_nobody_up(translator):
    answers: list[Answer] = []

    def drip(number: int) -> None:
        """Half of them send a body by single bytes, the others a head."""
        sent = post(b"", 1000) if number % 2 else b"POST /translate HTTP/1.1\r\nX: "
        with connect(served.port, sent) as client:
            client.settimeout(0.05)
            for _ in range(SECONDS * 20):
                client.send(b" ")
                try:
                    client.recv(1, socket.MSG_PEEK)
                    break
                except TimeoutError:
                    continue
            client.settimeout(SECONDS)
            answers.append(receive(client))

    with serving(translator, HASTY) as served:
        threads = in_threads(40, drip)
        silent = [connect(served.port) for _ in range(10)]
        while any(thread.is_alive() for thread in threads):
            assert served.translate("ab").content == {"translations": ["ba"]}
            time.sleep(0.05)
        for client in silent:
            assert client.recv(1) == b""
            client.close()
    assert len(answers) == 40
    lines = {refused(answer, 408) for answer in answers}
    assert any("incomplete head" in line for line in lines) and any(
        "body" in line for line in lines
    )


def test_a_client_that_does_not_read_is_cut_off():
    long = Translation("x" * 2**25, 0.0)
    with serving(lambda items: [[long]] * len(items), HASTY) as served:
        with connect(served.port, post(b'{"text": "a"}')) as client:
            wait_until(lambda: bool(served.service.server_state.connections))
            wait_until(lambda: not served.service.server_state.connections)
            size = 0
            with contextlib.suppress(ConnectionResetError):
                while chunk := client.recv(2**20):
                    size += len(chunk)
            assert size < 2**25


def test_clients_that_leave_are_no_longer_translated_for(translator):
    with serving(translator, Limits(probe_seconds=0.05)) as served:
        translator.hold()
        clients = [connect(served.port, post(b'{"texts": ["a", "b"]}')) for _ in range(20)]
        wait_until(lambda: served.batcher.num_waiting >= 32)
        for client in clients:
            client.close()
        connect(served.port, post(b'{"te', 100)).close()  # in the middle of a body
        wait_until(lambda: served.batcher.num_waiting == 0)
        translator.go_on()
        assert served.translate("ab").content == {"translations": ["ba"]}


# HTTP/1.0 has one request per connection.
@pytest.mark.parametrize(("number", "version"), [(1, b"1.0"), (1, b"1.1"), (4, b"1.1")])
def test_a_client_that_sends_no_more_gets_all_its_answers(translator, number, version):
    sent = b"".join(post(b'{"text": "a%d"}' % each) for each in range(number))
    with serving(translator) as served:
        translator.hold()
        with connect(served.port, sent.replace(b"HTTP/1.1", b"HTTP/" + version)) as client:
            client.shutdown(socket.SHUT_WR)
            wait_until(lambda: len(translator.batches) > 1)
            time.sleep(0.1)
            translator.go_on()
            found = [receive(client).content for _ in range(number)]
            assert client.recv(1) == b""  # closed by the service
    assert found == [{"translations": [f"{n}a"]} for n in range(number)]


def test_head_and_body_of_an_answer_are_sent_together(translator):
    with serving(translator) as served, connect(served.port) as client:
        for _ in range(20):
            client.sendall(post(b'{"text": "ab"}'))
            assert client.recv(4096).endswith(b'\r\n\r\n{"translations":["ba"]}')


def test_a_client_that_sends_no_more_and_waits_long_gets_interim_responses(translator):
    with serving(translator, Limits(probe_seconds=0.05)) as served:
        translator.hold()
        with connect(served.port, post(b'{"text": "ab"}')) as client:
            client.shutdown(socket.SHUT_WR)
            interim = b"HTTP/1.1 100 Continue\r\n\r\n"
            assert client.recv(len(interim), socket.MSG_WAITALL) == interim
            translator.go_on()
            assert receive(client).content == {"translations": ["ba"]}
            assert client.recv(1) == b""


@pytest.mark.parametrize("sent", [b"", b"POST /trans", post(b'{"text": "ab"}', 99)])
def test_a_client_that_ends_before_its_request_does_is_let_go(translator, sent):
    with serving(translator) as served, connect(served.port, sent) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""


@pytest.mark.parametrize("address", ["http://here", "HTTP://127.0.0.1:80", "https://[::1]:443"])
def test_a_target_may_name_the_host(translator, address):
    with serving(translator) as served:
        answer = served.ask(f"{address}/translate", {"text": "ab"})
        assert answer.content == {"translations": ["ba"]}
        assert served.ask(f"{address}/health?now").status == 200
        assert served.ask(address).headers["content-type"].startswith("text/html")
        assert "'/translat': not found" in refused(served.ask(f"{address}/translat"), 404)
        assert "found GET, accepted: POST" in refused(served.ask(f"{address}/translate"), 405)
        refused(served.ask(f"/{address}/translate", {"text": "ab"}), 404)


def test_truncated_texts_are_told_by_their_indices(translator):
    with serving(translator) as served:
        found = served.translate("a", "endless b", "c", "endless d").content
        assert found.pop("translations")[3] == "d sseldne"
        assert found == {"truncated": [1, 3]}
        assert served.translate("a", "").content.keys() == {"translations"}


def test_a_text_is_translated_sentence_by_sentence(translator):
    text = "  Eins, zwei.  Drei!\n\n- Vier, fünf.\n"
    with serving(translator, splitter=splitter("always")) as served:
        found = served.ask("/translate", {"texts": [text, "", "\n"], "source_language": "de"})
        joined = "  .iewz ,sniE  !ierD\n\n.fnüf ,reiV -\n"
        assert found.content == {"translations": [joined, "", "\n"]}
        words = " ".join(f"wort{number}" for number in range(30))
        found = served.translate("kurz", words).content
        assert found["in_pieces"] == [1] and "truncated" not in found
        assert len(translator.batches) > 2
        refusal = refused(served.translate("Ein Satz. " * 9000), 413)
        assert "text: found 9000 sentences, accepted: at most 8192 in a request" in refusal


def test_more_is_answered_where_it_is_asked_for(translator):
    with serving(translator, splitter=splitter("always")) as served:
        question = {"texts": ["Ja. Nein.", ""], "nbest": 3, "scores": True, "detect_language": True}
        found = served.ask("/translate", question).content
        assert found == {
            "translations": [".aJ .nieN", ""],
            "scores": [0.0, 0.0],
            "nbest": [
                [
                    {"text": ".aJ .nieN", "score": 0.0},
                    {"text": ".aJ 1 .nieN 1", "score": -1.0},
                    {"text": ".aJ 2 .nieN 2", "score": -2.0},
                ],
                [{"text": "", "score": 0.0}],
            ],
            "source_languages": [None, None],
        }
        question = {"texts": ["Ja. Nein.", "", "Ja."], "confidence": True, "nbest": 2}
        found = served.ask("/translate", question).content
        sure, unsure, empty = (CURVE.confidence(mean) for mean in (-3, -5, 0))
        assert found["confidences"] == [unsure, empty, sure]  # that of the least sure sentence
        asked = {"text": "Ein Satz. Noch einer.", "beam_size": 2, "prefix": "the"}
        assert served.ask("/translate", asked).content.keys() == {"translations"}
        options = [item.options for item in translator.items[-2:]]
        assert sorted(options) == [LineOptions("", 2), LineOptions("the", 2)]
        long = "Das ist ein deutscher Satz, an dem niemand zweifeln wird."
        found = served.ask("/translate", {"text": long, "detect_language": True}).content
        assert found["source_languages"] == ["de"]


def test_a_failure_is_500_and_the_service_goes_on(translator):
    with serving(translator) as served:
        assert "translation failed (ArithmeticError)" in refused(served.translate("boom"), 500)
        assert served.translate("ab").content == {"translations": ["ba"]}
        assert served.ask("/health").status == 200


def test_more_connections_than_there_may_be_are_refused(translator):
    with serving(translator, Limits(max_connections=3)) as served:
        clients = [connect(served.port) for _ in range(3)]
        wait_until(lambda: len(served.service.server_state.connections) == 3)
        with connect(served.port) as client:
            assert "found more than 3" in refused(receive(client), 503)
        for client in clients:
            client.close()
        wait_until(lambda: not served.service.server_state.connections)
        assert served.translate("ab").status == 200


def test_many_requests_in_one_connection(translator):
    requests = [post(b'{"text": "a%d"}' % number) for number in range(5)]
    with serving(translator) as served:
        with connect(served.port, b"".join(requests)) as client:
            found = [receive(client).content for _ in range(5)]
    assert found == [{"translations": [f"{n}a"]} for n in range(5)]


def test_at_the_end_everything_accepted_is_answered_and_nothing_new(translator):
    answers: list[Answer] = []
    with serving(translator) as served:
        idle, slow = connect(served.port), connect(served.port, post(b'{"text"', 15))
        translator.hold()
        threads = in_threads(12, lambda n: answers.append(served.translate(f"text {n}")))
        wait_until(lambda: served.batcher.num_waiting == 12 - len(translator.batches[-1]))
        served.service.should_exit = True
        wait_until(lambda: served.batcher.state == "stopping")
        assert idle.recv(1) == b""
        with pytest.raises(OSError):
            served.ask("/health")
        slow.sendall(b': "abc"}')  # its first half was there before
        assert "stopping" in refused(receive(slow), 503)
        translator.go_on()
        for thread in threads:
            thread.join(SECONDS)
        served.thread.join(SECONDS)
        assert not served.thread.is_alive()
        idle.close()
        slow.close()
    assert [answer.status for answer in answers] == [200] * 12
    found = {answer.content["translations"][0] for answer in answers}
    assert found == {f"text {n}"[::-1] for n in range(12)}


def test_an_address_that_cant_be_had_is_one_line(monkeypatch):
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(ConfigError, match=f"--port: found {port}, which is in use on"):
            open_socket("127.0.0.1", port)
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))  # of nobody
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: [address])
    with pytest.raises(ConfigError, match="--host: found there, which is not an address of this"):
        open_socket("there", 0)


def test_json_is_utf_8_as_it_is(translator):
    with serving(translator) as served:
        with connect(served.port, post(json.dumps({"text": "日本語"}).encode())) as client:
            assert receive(client).content == {"translations": ["語本日"]}
