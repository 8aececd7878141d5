"""Evidently's report of a decision, from the folder of its monitoring run, served in a sandbox."""

import re

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from openmlops.operations.monitoring.run_folders import OUTCOME_FILE
from openmlops.operations.workspace import Workspace

REPORT_FILE = "evidently_report.html"
"""same as in the adapter, which imports libraries that a server lacks"""
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
    """The reports in the folders of the latest monitoring runs."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def has(self, model: str, decision: str) -> bool:
        """Whether there is a report of this decision on this model."""
        folder = self._workspace.monitoring / decision
        if not _ID.fullmatch(decision) or not (folder / REPORT_FILE).is_file():
            return False
        try:
            found = _Outcome.model_validate_json((folder / OUTCOME_FILE).read_bytes())
        except (OSError, ValueError):
            return False
        return (found.model.name, found.decision.id) == (model, decision)

    def show(self, model: str, decision: str) -> Response:
        """The report. Raises HTTPException if there is none here."""
        if not self.has(model, decision):
            detail = (
                f"MONITORING_DIR has no report for this decision; MLflow has one under monitoring/{decision[:64]} of the run "
                "if there was drift or something to do"
            )
            raise HTTPException(404, detail)
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        path = self._workspace.monitoring / decision / REPORT_FILE
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)


def report(request: Request) -> Response:
    """The report of the decision in the URL."""
    reports: Reports = request.app.state.console.reports
    return reports.show(request.path_params["model"], request.path_params["decision"])
