"""`console`: the web console, independent of prediction servers."""

from typing import Annotated

import typer

from openmlops.cli.options import UseCaseName
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: openmlops console --port 8080")(console)


def console(
    host: Annotated[str, typer.Option(help="Address to listen on; anything but 127.0.0.1 requires API_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port.")] = 8080,
    use_case: UseCaseName = None,
) -> None:
    """Start the web console: champion, decisions and drift; promote, roll back and run cycles. `serve` includes it at /."""
    from openmlops.console.app import create_app
    from openmlops.console.run import serve
    from openmlops.web.sockets import listening

    workspace = Workspace.open()
    app = create_app(workspace, host)
    with listening(host, port) as bound:
        _ = workspace.engine  # make it here: Alembic, which MLflow uses too, is not thread-safe
        say(f"Console for {workspace.model_name}: http://{host}:{bound.getsockname()[1]}. Stop with Ctrl-C.")
        serve(app, bound)
