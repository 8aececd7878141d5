"""The server as an ASGI application. Its components are in `services`, its startup in `run`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from openmlops.console import app as console
from openmlops.console.rendering import error_page
from openmlops.console.services import make, make_access
from openmlops.serving import problems, routes, routes_v2
from openmlops.serving.config import ServingConfig
from openmlops.serving.guard import Guard
from openmlops.serving.metrics import Metrics
from openmlops.serving.page import POLICY, documentation
from openmlops.serving.services import running
from openmlops.web.access import listed
from openmlops.web.conditions import Conditions
from openmlops.web.forwarded import ForwardedMiddleware, networks


def create_app(config: ServingConfig) -> FastAPI:
    """The application of one worker process. Raises SettingsError for ineffective tokens."""
    config.tokens.require_for(config.host)
    workspace = config.workspace
    access = make_access(workspace)
    metrics = Metrics.make(config.metrics_folder)
    conditions = Conditions(lambda part, value: metrics.problems.labels(part).set(value))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(config, metrics, conditions) as app.state.services:
            yield

    app = FastAPI(
        title="OpenMLOps",
        version=version("openmlops"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Guard, limits=config.limits, access=access, metrics=metrics, error_page=error_page)
    if origins := listed(config.settings.cors_origins):  # outside of the guard: a preflight carries no token
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"], max_age=600
        )
    if proxies := networks(config.settings.trusted_proxies):
        app.add_middleware(ForwardedMiddleware, trusted=proxies)
    # answers before FastAPI's own route of the same name, which stays for the document: 9 µs a request instead of 36
    app.router.routes.append(Route("/predict", routes.predict, methods=["POST"]))
    app.include_router(routes.router)
    app.include_router(routes_v2.router)
    app.router.routes.extend(console.routes())
    app.state.console = make(workspace, access, conditions, metrics.failed)
    problems.install(app)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(documentation(app.openapi(), config.model), headers={"Content-Security-Policy": POLICY})

    return app
