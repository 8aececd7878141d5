"""Requests made up from the server's own OpenAPI document, valid and invalid ones: none of them may be a 5xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.generation import GenerationMode


def send_generated(url: str, requests: int) -> int:
    """About `requests` in all; how many were sent. Invalid ones only where JSON is taken: any text is a valid name."""
    document = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    taking = [operation for operation in operations if list(operation.iter_parameters()) or operation.body]
    jobs = [(operation, GenerationMode.POSITIVE) for operation in taking]
    jobs += [(operation, GenerationMode.NEGATIVE) for operation in taking if takes_json(operation)]
    return sum(send(operation, mode, 1 + requests // len(jobs)) for operation, mode in jobs)


def takes_json(operation) -> bool:
    return any(body.media_type == "application/json" for body in operation.body)


def send(operation, mode: GenerationMode, examples: int) -> int:
    sent = 0

    @seed(0)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(operation.as_strategy(mode))
    def probe(case: schemathesis.Case) -> None:
        nonlocal sent
        sent += 1
        response = case.call()
        assert response.status_code < 500, f"{operation.label} {case.body!r} {response.text}"

    probe()
    return sent


def test_generated_requests_are_never_a_5xx(server):
    assert send_generated(server.url, requests=100) >= 50


@pytest.mark.slow
def test_ten_thousand_generated_requests_are_never_a_5xx(server):
    assert send_generated(server.url, requests=12_000) >= 10_000
