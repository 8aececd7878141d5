"""Notifications of decisions: always to the log, and to the webhook if one is configured.

The same action about the same version is not repeated. A failing webhook is logged and changes nothing: the decision is
stored anyway.
"""

import logging
from typing import Any

from openmlops.adapters import webhook
from openmlops.core.types import Value
from openmlops.errors import NotificationError
from openmlops.operations.monitoring.cycle import CycleOutcome
from openmlops.operations.monitoring.history import records_of
from openmlops.operations.workspace import Workspace

log = logging.getLogger(__name__)


class Notification(Value):
    """The JSON payload. `outcome` is None if nothing was done about the decision."""

    model: str
    version: int
    decision: str
    action: str
    reasons: tuple[str, ...]
    mode: str
    outcome: str | None
    champion: int | None


def notify(workspace: Workspace, found: CycleOutcome) -> bool:
    """Log the cycle's decision, and post it to the webhook if it is new. Returns whether the webhook accepted it."""
    decision = found.monitoring.decision
    news = Notification(
        model=found.monitoring.model.name,
        version=found.monitoring.model.version,
        decision=decision.id,
        action=decision.action,
        reasons=decision.reasons,
        mode=found.mode,
        outcome=found.outcome.kind if found.outcome else None,
        champion=found.champion,
    )
    log.info("%s/%d: %s (%s)", news.model, news.version, news.action, "; ".join(news.reasons))
    if found.mode == "manual" or not _is_news(workspace, news):
        return False
    return _post(workspace, news.model_dump(mode="json"), f"{news.decision}.{news.outcome or news.action}")


def _is_news(workspace: Workspace, news: Notification) -> bool:
    """Whether something was done, or the action differs from the previous decision's and is one to report."""
    if news.outcome:
        return True
    before = [r for r in records_of(workspace, news.model) if r.observation and r.id != news.decision]
    is_same = bool(before) and (before[-1].action, before[-1].version) == (news.action, news.version)
    return news.action not in ("nothing", "not_measurable") and not is_same


def _post(workspace: Workspace, content: dict[str, Any], identity: str) -> bool:
    settings = workspace.settings
    url = settings.notify_webhook_url.get_secret_value()
    if not url:
        return False
    hosts = [host.strip() for host in settings.notify_allowed_hosts.split(",") if host.strip()]
    try:
        webhook.post(url, content, hosts, identity, settings.notify_webhook_secret.get_secret_value())
    except NotificationError as error:
        log.error("%s", error)
        return False
    return True
