"""What open label requests name: its predictions and their images stay as long as the request is open."""

from itertools import chain

from openmlops.adapters.decisions import Decisions
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.ledger import Ledger


def requested_predictions(ledger: Ledger, decisions: Decisions) -> dict[str, tuple[str, ...]]:
    """The ids of the predictions of open label requests, by model. Raises ServiceUnavailable."""
    found = {model: decisions.open_request(model) for model in ledger.models()}
    return {model: (*each.labels.uncertain, *each.labels.random) for model, each in found.items() if each}


def requested_inputs(ledger: Ledger, decisions: Decisions, log: InferenceLog) -> frozenset[str]:
    """The SHA-256 of the images of open label requests. Raises ServiceUnavailable."""
    requests = requested_predictions(ledger, decisions).items()
    return frozenset(chain.from_iterable(log.named(model, ids).input_sha256 for model, ids in requests))
