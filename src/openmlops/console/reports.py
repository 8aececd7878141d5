"""Evidently's report of a decision, from the monitoring folder, served in a sandbox."""

import re

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from openmlops.operations.workspace import Workspace

OUTCOME_FILE, REPORT_FILE = "monitoring.json", "evidently_report.html"
"""same as in `operations.monitoring` and the adapter, which import libraries that a server lacks"""
POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; frame-ancestors 'none'"
)
"""its scripts run in an opaque origin without access to hosts and cookies"""
_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}")


class _Decision(BaseModel):
    id: str


class _Model(BaseModel):
    name: str


class _Outcome(BaseModel):
    """The needed fields of a monitoring run's outcome."""

    decision: _Decision
    model: _Model


class Reports:
    """The report in the monitoring folder, that of the last run."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def latest(self, model: str) -> str:
        """Id of the decision that the report belongs to; empty if there is no report of this model."""
        folder = self._workspace.monitoring
        try:
            found = _Outcome.model_validate_json((folder / OUTCOME_FILE).read_bytes())
        except (OSError, ValueError):
            return ""
        return found.decision.id if found.model.name == model and (folder / REPORT_FILE).is_file() else ""

    def show(self, model: str, decision: str) -> Response:
        """The report. Raises HTTPException if the folder holds that of another decision."""
        if not _ID.fullmatch(decision) or decision != self.latest(model):
            detail = (
                f"MONITORING_DIR has no report for this decision; MLflow stores it under monitoring/{decision[:64]} of the run"
            )
            raise HTTPException(404, detail)
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return FileResponse(self._workspace.monitoring / REPORT_FILE, media_type="text/html; charset=utf-8", headers=headers)


def report(request: Request) -> Response:
    """The report of the decision in the URL."""
    reports: Reports = request.app.state.console.reports
    return reports.show(request.path_params["model"], request.path_params["decision"])
