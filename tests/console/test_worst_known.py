"""The page tells the worst it knows: labels before estimates, and never the test score as production's.

The tests go on from one another: first no drift, then drift, then a forced version and a rollback.
"""

import time
from datetime import UTC, datetime, timedelta

from console_world import BAD, CHAMPION, FIRST, NAME, decide, predicted
from starlette.testclient import TestClient
from test_console_pages import PAGE, part, words

from openmlops.core.monitoring.policy import Observation
from openmlops.operations.release import promotion
from openmlops.operations.workspace import Workspace


def when_mlflow_has_responded(client: TestClient) -> str:
    """The overview, with the test scores."""
    for _ in range(1000):
        found = part(client, "now")
        if "has not responded yet" not in found:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def test_labels_of_the_last_window_are_shown_and_the_test_score_beside_them(client: TestClient) -> None:
    now = when_mlflow_has_responded(client)
    assert "75.0 % accuracy on 200 production labels (95 %: 70.0 to 80.0)" in now
    assert "accuracy on the test split 76.0 % [74.0, 78.0]" in now
    assert "Drift" not in part(client, "alarm")


def test_labels_that_came_since_and_are_worse_are_what_counts(client: TestClient, toys: Workspace) -> None:
    read_label = toys.use_case.task.read_label
    predicted(toys, datetime.now(UTC), 400)
    newest = toys.inference_log.unlabelled(NAME, CHAMPION, 400)
    for name in newest[:150]:
        toys.inference_log.label(name, 5, read_label, datetime.now(UTC))
    now, alarm = when_mlflow_has_responded(client), part(client, "alarm")
    assert "75.0 %" not in now
    assert "Version 2 is worse in production than on its test" in alarm
    assert "against 76.0 % on its test" in alarm
    assert "Measured accuracy" in alarm


def test_the_alarm_names_accuracy_and_what_to_do(client: TestClient, toys: Workspace) -> None:
    decide(toys, "drift")
    alarm = part(client, "alarm")
    assert "Drift: the input of version 2 differs from the data it was trained on" in alarm
    assert "What to do: label the requested images" in alarm
    html = client.get(f"{PAGE}/parts/now").text
    assert 'class="tile is-bad" aria-labelledby="tile-drift"' in html
    assert 'class="tile is-bad" aria-labelledby="tile-accuracy"' in html
    assert 'class="tile is-back" aria-labelledby="tile-next"' in html


def test_after_a_rollback_the_last_state_of_the_version_itself_stays(client: TestClient, toys: Workspace) -> None:
    """Version 1 was seen under drift before version 2 came; back in production it is not taken for sound."""
    drifted = toys.decisions.list(NAME)[-1]
    assert drifted.observation
    before = toys.ledger.history(NAME)[0].at - timedelta(hours=1)
    seen = Observation.model_validate({**drifted.observation.model_dump(), "version": FIRST, "at": before, "labelled": None})
    toys.decisions.append(drifted.model_copy(update={"id": "old", "version": FIRST, "at": before, "observation": seen}))
    retrain = decide(toys, "no_drift").model_copy(update={"id": "due", "action": "retrain"})
    toys.decisions.append(retrain)
    promotion.rollback(toys, NAME, "see")
    now, alarm = part(client, "now"), part(client, "alarm")
    assert "when it was in production before" in alarm
    assert "Its accuracy is unknown: too few production labels, and no reliable estimate." in alarm
    assert "What to do: run a cycle, which evaluates version 1 and decides" in alarm
    assert "It has not been evaluated since it is back" in now
    assert "Unknown" in now
    assert "about version 2, decided" in now
    assert "waiting for nothing: it was about version 2, and version 1 is in production now" in now


def test_one_vocabulary_of_states(client: TestClient, toys: Workspace) -> None:
    promotion.promote(toys, f"{NAME}/{BAD}", "to see", force=True)
    assert f"version {BAD} ◆ forced".replace("◆ ", "") in part(client, "now")
    assert "champion, forced" in part(client, "versions")
    promotion.rollback(toys, NAME, "seen")
    table = words(client.get(f"{PAGE}/parts/versions").text)
    assert f"{BAD} rejected, forced once" in table
    assert "not judged accuracy 80.0 % [78.0, 82.0] not judged" in table
