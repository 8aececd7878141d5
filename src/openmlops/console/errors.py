"""The errors of a version and what explains them: read from the files of its run, which the training pipeline made.

Not here: how they are made (operations/release/explanations.py). Nothing is computed here, and no model is loaded.
"""

from collections import OrderedDict
from threading import Lock

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from openmlops.console.images import HEADERS
from openmlops.console.pages import requested_model
from openmlops.console.rendering import page
from openmlops.console.services import console
from openmlops.core.explanations import Explanations
from openmlops.errors import ModelNotFound
from openmlops.operations.release.aliases import version_of
from openmlops.operations.release.explanations import EVALUATION, FILE
from openmlops.operations.workspace import Workspace

KEPT = 4
"""runs whose files are kept in memory"""
PNG = b"\x89PNG\r\n\x1a\n"

_kept: OrderedDict[tuple[str, str], dict[str, bytes]] = OrderedDict()
_lock = Lock()


def show(request: Request) -> Response:
    """The page of a version's errors. Raises ModelNotFound if it has no such files."""
    model, version = requested_model(request), request.path_params["version"]
    files = _files(console(request).workspace, model, version)
    try:
        told = Explanations.model_validate_json(files[FILE])
    except (KeyError, ValidationError):
        problem = f"The run of {model}/{version} has no {EVALUATION}/{FILE}"
        raise ModelNotFound(problem, "Versions that are trained from now on have one") from None
    return page(request, "errors.html", model=model, version=version, told=told)


def picture(request: Request) -> Response:
    """One picture of that page."""
    model, version, name = requested_model(request), request.path_params["version"], request.path_params["file"]
    content = _files(console(request).workspace, model, version).get(name, b"")
    if not content.startswith(PNG):
        return PlainTextResponse("There is no such picture", 404)
    return Response(content, media_type="image/png", headers=HEADERS)


def _files(workspace: Workspace, model: str, version: int) -> dict[str, bytes]:
    """The files of the evaluation in the version's run, by name."""
    ref = version_of(workspace, model, version)
    if not ref.run_id:
        raise ModelNotFound(f"The run of {model}/{version} was deleted from MLflow", "Its other files are kept")
    key = (workspace.settings.tracking_uri, ref.run_id)
    with _lock:
        if key not in _kept:
            _kept[key] = workspace.tracking.read_files(ref.run_id, EVALUATION)
        _kept.move_to_end(key)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
        return _kept[key]


ROUTES = [
    Route("/console/models/{model}/versions/{version:int}/errors", show),
    Route("/console/models/{model}/versions/{version:int}/errors/{file}", picture),
]
