"""Each service gets the body that it documents, with text a person understands."""

import json

import pytest

from openmlops.core.monitoring.messages import MOST_OF_DISCORD, Notification, body

NEWS = Notification(
    model="pets",
    version=3,
    decision="1f37d9a2720c",
    action="collect_labels",
    reasons=("statistic 9.1 is above 2.0 <b> & more",),
    mode="suggest",
    outcome=None,
    champion=3,
)
LINK = "https://ml.example/console/models/pets"


def test_slack_gets_a_text_with_its_own_escapes_and_link() -> None:
    assert body("slack", NEWS, LINK) == {
        "text": "*pets version 3 is in trouble, and needs labels*\n- statistic 9.1 is above 2.0 &lt;b&gt; &amp; more\n"
        "What to do: label the requested images on the page, or send labels to POST /feedback.\n"
        f"Details: `openmlops why 1f37d9a2720c`\n<{LINK}|Open the console>"
    }


def test_discord_pings_nobody_and_takes_no_more_than_it_does() -> None:
    long = NEWS.model_copy(update={"reasons": ("@everyone " * 500,)})
    found = body("discord", long, LINK)
    assert (found["allowed_mentions"], len(found["content"])) == ({"parse": []}, MOST_OF_DISCORD)


def test_mattermost_gets_markdown() -> None:
    assert body("mattermost", NEWS, LINK)["text"].endswith(f"[Open the console]({LINK})")


@pytest.mark.parametrize("format_", ["discord", "mattermost", "teams"])
def test_a_name_from_data_is_no_markup(format_: str) -> None:
    told = NEWS.model_copy(update={"reasons": ("drift of [free](http://evil.example) and ![x](y)",)})
    found = json.dumps(body(format_, told, LINK))
    assert "[free](" not in found
    assert r"\\[free\\]" in found


def test_teams_gets_an_adaptive_card() -> None:
    (attachment,) = body("teams", NEWS, LINK)["attachments"]
    card = attachment["content"]
    assert (attachment["contentType"], card["type"]) == ("application/vnd.microsoft.card.adaptive", "AdaptiveCard")
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open the console", "url": LINK}]


def test_alertmanager_gets_a_list_whose_labels_are_texts() -> None:
    (alert,) = body("alertmanager", NEWS, LINK)
    assert alert["labels"]["alertname"] == "OpenMLOpsDecision"
    assert all(isinstance(value, str) for part in ("labels", "annotations") for value in alert[part].values())
    assert alert["generatorURL"] == LINK


@pytest.mark.parametrize("format_", ["json", "slack", "discord", "mattermost", "teams", "alertmanager"])
@pytest.mark.parametrize("outcome", [None, "promote", "reject", "inconclusive", "failed", "no_data", "rolled_back", "started"])
@pytest.mark.parametrize("action", ["retrain", "collect_labels", "roll_back"])
def test_every_decision_and_outcome_can_be_told(format_: str, outcome: str | None, action: str) -> None:
    news = NEWS.model_copy(update={"outcome": outcome, "action": action})
    assert "pets" in json.dumps(body(format_, news))
