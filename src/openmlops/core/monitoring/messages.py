"""Bodies of notifications, as the services that people use expect them.

What is here: text and JSON, from one notification. What is not: which decisions are news, and sending
(`operations.monitoring.notification`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from openmlops.core.types import Value
from openmlops.plain import in_markdown

Format = Literal["json", "slack", "discord", "mattermost", "teams", "alertmanager"]
MOST_OF_DISCORD = 2000
"""characters that Discord takes"""


class Notification(Value):
    """What is told: the JSON payload. `outcome` is None if nothing was done about the decision."""

    model: str
    version: int
    decision: str
    action: str
    reasons: tuple[str, ...]
    mode: str
    outcome: str | None
    champion: int | None


_NEEDS = {
    "collect_labels": "{model} version {version} is in trouble, and needs labels",
    "retrain": "{model} version {version} is in trouble: a retraining is suggested",
    "roll_back": "{model} version {version} is in trouble: a rollback is suggested",
}
_CAME = {
    "promote": "{model} was retrained: version {champion} is in production now",
    "reject": "{model} was retrained, but the gate rejected the new version; version {champion} stays in production",
    "inconclusive": "{model} was retrained, but the gate could not decide; version {champion} stays in production",
    "failed": "{model}: the action '{action}' failed; version {champion} stays in production",
    "no_data": "{model}: there is no new data to retrain on; version {champion} stays in production",
    "rolled_back": "{model} was rolled back from version {version} to version {champion}",
}
_DOES = {
    "collect_labels": "What to do: label the requested images on the page, or send labels to POST /feedback.",
    "retrain": "What to do: run `openmlops cycle --mode auto`.",
    "roll_back": "What to do: run `openmlops rollback {model}`.",
}


def title(news: Notification, shown: Callable[[object], str] = str) -> str:
    """What happened, in a sentence without a full stop. `shown` escapes text from data."""
    known = _CAME.get(news.outcome or "") or _NEEDS.get(news.action) or "{model} version {version}: {action}"
    said = {"action": news.action.replace("_", " "), "champion": news.champion or "none", "model": shown(news.model)}
    return known.format(**news.model_dump() | said)


def lines(news: Notification, shown: Callable[[object], str] = str) -> tuple[str, ...]:
    """Why, what to do, and where to read more: a sentence each. `shown` escapes text from data."""
    does = () if news.outcome else ((_DOES[news.action].format(model=news.model),) if news.action in _DOES else ())
    return (*(f"- {shown(reason)}" for reason in news.reasons), *does, f"Details: `openmlops why {news.decision}`")


def body(format_: Format, news: Notification, link: str = "") -> Mapping[str, Any] | list[Any]:
    """The JSON to post, with a link to the model's page if there is one. Alertmanager takes a list of alerts."""
    return _BODIES[format_](news, link)


def _json(news: Notification, link: str) -> Mapping[str, Any]:
    content = news.model_dump(mode="json")
    return {**content, "text": title(news), "link": link} if link else {**content, "text": title(news)}


def _slack(news: Notification, link: str) -> Mapping[str, Any]:
    def escaped(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    said = [f"*{escaped(title(news))}*", *map(escaped, lines(news)), *([f"<{link}|Open the console>"] if link else [])]
    return {"text": "\n".join(said)}


def _markdown(news: Notification, link: str) -> str:
    said = [f"**{title(news, in_markdown)}**", *lines(news, in_markdown)]
    return "\n".join([*said, *([f"[Open the console]({link})"] if link else [])])


def _discord(news: Notification, link: str) -> Mapping[str, Any]:
    text = _markdown(news, link)
    short = text if len(text) <= MOST_OF_DISCORD else f"{text[: MOST_OF_DISCORD - 3]}..."
    return {"content": short, "allowed_mentions": {"parse": []}}


def _mattermost(news: Notification, link: str) -> Mapping[str, Any]:
    return {"text": _markdown(news, link)}


def _teams(news: Notification, link: str) -> Mapping[str, Any]:
    """An adaptive card, as the webhooks of Teams' workflows take it."""
    blocks = [{"type": "TextBlock", "text": title(news, in_markdown), "weight": "Bolder", "wrap": True}]
    blocks += [{"type": "TextBlock", "text": line, "wrap": True} for line in lines(news, in_markdown)]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
    }
    if link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the console", "url": link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _alertmanager(news: Notification, link: str) -> list[Any]:
    """For POST /api/v2/alerts. Alertmanager groups and silences by the labels."""
    labels = {
        "alertname": "OpenMLOpsDecision",
        "model": news.model,
        "version": str(news.version),
        "action": news.action,
        "severity": "info" if news.outcome in ("promote", "rolled_back") else "warning",
    }
    labels |= {"outcome": news.outcome} if news.outcome else {}
    alert: dict[str, Any] = {"labels": labels}
    alert["annotations"] = {"summary": title(news), "description": "\n".join(lines(news)), "decision": news.decision}
    return [alert | ({"generatorURL": link} if link else {})]


_BODIES: dict[str, Callable[[Notification, str], Mapping[str, Any] | list[Any]]] = {
    "json": _json,
    "slack": _slack,
    "discord": _discord,
    "mattermost": _mattermost,
    "teams": _teams,
    "alertmanager": _alertmanager,
}
