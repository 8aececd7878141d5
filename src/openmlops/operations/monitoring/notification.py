"""Notifications of decisions: always to the log, and to the webhook if one is configured.

The same action about the same version is not repeated. What is to be posted is kept in the outbox first and sent until the
webhook acknowledges it: by this process, else by the next cycle, or by a watcher.
"""

import json
import logging
from datetime import UTC, datetime
from typing import NamedTuple, get_args
from urllib.parse import quote

from openmlops.adapters import webhook
from openmlops.adapters.decisions import DecisionRecord
from openmlops.adapters.outbox import Message
from openmlops.core.monitoring.messages import Notification, body
from openmlops.core.monitoring.observed import Action
from openmlops.errors import NotificationError
from openmlops.operations.monitoring.cycle import CYCLE, CycleOutcome
from openmlops.operations.monitoring.history import records_of
from openmlops.operations.workspace import Workspace

TOLD = "told/"
"""how the progress of telling decisions is named, up to which all that are news were put into the outbox"""

log = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """How many messages the webhook acknowledged, how many wait, and why."""

    sent: int = 0
    waiting: int = 0
    problem: str = ""


def notify(workspace: Workspace, found: CycleOutcome) -> Delivery:
    """Log the cycle's decision, keep it in the outbox if it is news, and send what waits there."""
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
    if workspace.settings.notify_webhook_url.get_secret_value():
        _keep_untold(workspace, news, found.mode)
    return deliver(workspace, again=True)


def deliver(workspace: Workspace, again: bool = False) -> Delivery:
    """Send the messages of MODEL_NAME that are due, oldest first, until one fails; with `again`, also those whose pause is not
    over. A message is forgotten once the webhook has acknowledged it. Raises ServiceUnavailable."""
    settings, sent = workspace.settings, 0
    url = settings.notify_webhook_url.get_secret_value()
    if not url:
        return Delivery()
    hosts = [host.strip() for host in settings.notify_allowed_hosts.split(",") if host.strip()]
    for message in workspace.outbox.claim(workspace.model_name, datetime.now(UTC), again):
        content = body(settings.notify_format, Notification.model_validate_json(message.content), _link(workspace))
        try:
            webhook.post(url, content, hosts, message.identity, settings.notify_webhook_secret.get_secret_value())
        except NotificationError as error:
            workspace.outbox.failed(message, str(error), datetime.now(UTC))
            if error.problem != message.problem:
                log.error("%s", error)
            return Delivery(sent, len(workspace.outbox.waiting(workspace.model_name)), str(error))
        workspace.outbox.delivered(message)
        sent += 1
    waiting = workspace.outbox.waiting(workspace.model_name)
    return Delivery(sent, len(waiting), waiting[-1].problem if waiting else "")


def _keep_untold(workspace: Workspace, news: Notification, mode: str) -> None:
    """Put this decision into the outbox if it is news, and those of cycles that died before they could."""
    name, records = f"{TOLD}{news.model}", records_of(workspace, news.model)
    told = workspace.progress.position(name)
    newest = workspace.decisions.newest(news.model)
    untold = workspace.decisions.after(news.model, told, get_args(Action)) if told else ()
    for _, record in untold:
        if record.by.startswith(CYCLE) and record.id != news.decision:
            missed = _of_record(record, workspace)
            if mode != "manual" and _is_news(records, missed):
                _keep(workspace, missed)
    if mode != "manual" and _is_news(records, news):
        _keep(workspace, news)
    workspace.progress.move(name, newest)


def _keep(workspace: Workspace, news: Notification) -> None:
    identity = f"{news.decision}.{news.outcome or news.action}"
    workspace.outbox.put(
        Message(identity=identity, model=news.model, at=datetime.now(UTC), content=json.dumps(news.model_dump(mode="json")))
    )


def _of_record(record: DecisionRecord, workspace: Workspace) -> Notification:
    return Notification(
        model=record.model,
        version=record.version,
        decision=record.id,
        action=record.action,
        reasons=record.reasons,
        mode=workspace.settings.watch_mode,
        outcome=record.outcome.kind if record.outcome else None,
        champion=workspace.ledger.champion(record.model),
    )


def _is_news(records: tuple[DecisionRecord, ...], news: Notification) -> bool:
    """Whether something was done, or the action differs from the previous decision's and is one to report."""
    if news.outcome:
        return True
    ids = [record.id for record in records]
    earlier = records[: ids.index(news.decision)] if news.decision in ids else records
    before = [record for record in earlier if record.observation]
    is_same = bool(before) and (before[-1].action, before[-1].version) == (news.action, news.version)
    return news.action not in ("nothing", "not_measurable") and not is_same


def _link(workspace: Workspace) -> str:
    """The page of the model, if NOTIFY_CONSOLE_URL says where people open the console."""
    base = workspace.settings.notify_console_url.rstrip("/")
    return f"{base}/console/models/{quote(workspace.model_name)}" if base else ""
