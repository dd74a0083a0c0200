"""What is passed on of vLLM's page, and what is not."""

from __future__ import annotations

import time

import pytest

from imgnode.exporter import vllm
from imgnode.exporter.names import PASSED
from imgnode.exporter.vllm import VllmCollector, as_text, fetch, passed
from tests.unit.exporter_node import PAGE, answering, ok, values

ONE = '{engine="0",model_name="smollm2"}'
GENERATED = "imgnode_vllm_generation_tokens_per_second"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def shown(page: str) -> dict[str, float]:
    return values(as_text(dict(passed(page.split("\n")))))


def test_the_declared_series_are_passed_on_under_their_own_names() -> None:
    told = shown(PAGE)
    assert told[f"vllm:num_requests_running{ONE}"] == 2
    assert told[f"vllm:generation_tokens_total{ONE}"] == 730
    assert (
        told['vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0",model_name="smollm2"}']
        == 10
    )
    assert told[f"vllm:time_to_first_token_seconds_count{ONE}"] == 14
    families = {name.partition("{")[0] for name in told}
    for name, (kind, _) in PASSED.items():
        assert (f"{name}_sum" if kind == "histogram" else name) in families, name


def test_nothing_else_is_passed_on() -> None:
    for word in ("request_prefill", "_created", "http_", "by_reason", "iteration"):
        assert word in PAGE
        assert not any(word in name for name in shown(PAGE))


@pytest.mark.parametrize(
    "line",
    [
        'vllm:num_requests_running{model_name="x} 1',
        'vllm:num_requests_running{model_name="x"} one',
        'vllm:num_requests_running{model_name="x"}  1',
        'vllm:num_requests_running{model_name="x",} 1',
        'vllm:num_requests_running{model_name="\\x"} 1',
        "vllm:num_requests_running",
        "vllm:num_requests_running 1 2",
        "imgnode_gpu_lost 1",
    ],
)
def test_a_line_that_would_spoil_the_page_is_left_out(line: str) -> None:
    assert dict(passed([line])) == {}


def test_a_label_may_hold_anything_that_is_escaped() -> None:
    line = 'vllm:num_requests_running{model_name="a } \\" \\\\ b"} 1'
    assert dict(passed([line])) == {line[:-2]: "1"}


def test_tokens_per_second_are_those_of_the_last_look(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    one = VllmCollector(8000)
    answering(monkeypatch, ok(PAGE))
    one.collect()
    assert GENERATED not in values(one.text)
    clock[0] += 10
    answering(monkeypatch, ok(PAGE.replace("} 730.0", "} 1130.0")))
    one.collect()
    assert values(one.text)[GENERATED] == 40
    assert values(one.text)["imgnode_vllm_prompt_tokens_per_second"] == 0


def test_a_server_that_began_anew_has_no_rate(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    one = VllmCollector(8000)
    answering(monkeypatch, ok(PAGE))
    one.collect()
    clock[0] += 10
    answering(monkeypatch, ok(PAGE.replace("} 730.0", "} 5.0")))
    one.collect()
    assert GENERATED not in values(one.text)


def test_a_server_that_does_not_answer_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = VllmCollector(8000)
    answering(monkeypatch, ok(PAGE))
    one.collect()
    assert one.text
    answering(monkeypatch, b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    one.collect()
    assert one.text == ""


def test_it_asks_for_one_answer_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, ok("a\n"))
    assert fetch(8000) == "a\n"
    assert asked[0].startswith(b"GET /metrics HTTP/1.0\r\n")


def test_a_page_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "_MAX", 1000)
    answering(monkeypatch, ok("a" * 2000))
    with pytest.raises(ValueError, match="more than"):
        fetch(8000)


def test_a_flood_of_series_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f'vllm:num_requests_running{{model_name="{n}"}} 1\n' for n in range(5000)]
    answering(monkeypatch, ok("".join(lines)))
    one = VllmCollector(8000)
    one.collect()
    assert len(values(one.text)) == 2000
