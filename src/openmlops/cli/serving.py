"""`serve`, `traffic`, `verify`: the prediction server, simulated clients, and the reproducibility check."""

from pathlib import Path
from typing import Annotated

import typer

from openmlops.cli.models import Spec
from openmlops.cli.options import OnLeftOut, StopOrSkip, Strict, UseCaseName, skips
from openmlops.cli.options import seconds as parse_seconds
from openmlops.cli.show import Json, percent, print_json, print_table, say_account
from openmlops.operations.workspace import Workspace
from openmlops.terminal import bar, say


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: openmlops serve --port 8000 --workers 2")(serve)
    app.command(epilog="Example: openmlops traffic --rate 50 --seconds 20 --corrupt brightness:0.4 --labels")(traffic)
    app.command(epilog="Example: openmlops verify cifar10_cnn@champion")(verify)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; anything but 127.0.0.1 requires API_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of worker processes; they share the port and the inference log.")
    ] = 1,
    use_case: UseCaseName = None,
) -> None:
    """Serve the champion of MODEL_NAME and follow promotions and rollbacks. Predictions are logged before they are returned."""
    from pydantic import SecretStr

    from openmlops.serving.config import ServingConfig
    from openmlops.serving.run import serve_supervised

    workspace = Workspace.open()
    workspace.upgrade()
    config = ServingConfig(
        model=workspace.model_name,
        use_case=workspace.settings.use_case,
        home=workspace.home,
        database_url=SecretStr(workspace.settings.database),
        tracking_uri=SecretStr(workspace.settings.tracking_uri),
        api_token=workspace.settings.api_token,
        api_read_token=workspace.settings.api_read_token,
        settings=workspace.settings,
        host=host,
        port=port,
        workers=workers,
    )
    say(f"Serving {config.model} on http://{host}:{port} (console; API reference: /docs). Press Ctrl-C to stop.")
    serve_supervised(config)


def traffic(
    rate: Annotated[float, typer.Option(min=0.1, help="Images per second.")] = 20.0,
    seconds: Annotated[str, typer.Option(help="Duration, such as 30s or 5m.")] = "30s",
    corrupt: Annotated[
        str | None,
        typer.Option(help="Image corruption and its strength: blur:0.4, night:0.6, zoom:0.6, ..."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of new images to send instead of the test images, in any layout that init reads; labels optional."
        ),
    ] = None,
    on_left_out: OnLeftOut = StopOrSkip.stop,
    strict: Strict = False,
    labels: Annotated[bool, typer.Option("--labels", help="Also send the true label of each image.")] = False,
    url: Annotated[str, typer.Option(help="URL of the server.")] = "http://127.0.0.1:8000",
    seed: Annotated[int, typer.Option(min=0, help="Seed for the order and the corruption.")] = 0,
    use_case: UseCaseName = None,
    json: Json = False,
) -> None:
    """Send test images, or images from a folder, to the server as a client would. Only the latter can be retrained on."""
    from openmlops.operations.simulation.traffic import send, stream_of_folder, stream_of_test_images

    workspace = Workspace.open()
    skip = skips(on_left_out, strict)
    stream = (
        stream_of_folder(workspace, images, corrupt, seed, strict, skip)
        if images
        else stream_of_test_images(workspace, corrupt, seed)
    )
    if stream.account is not None:  # before the first request: whatever becomes of them, the files are accounted for
        say_account(stream.account)
    token = workspace.settings.api_token.get_secret_value()
    length = parse_seconds(seconds)
    with bar("Sending") as show:
        report = send(
            url.rstrip("/"),
            stream,
            seconds=length,
            rate=rate,
            labels=labels,
            token=token,
            show=lambda sent: show(sent, rate * length, f"{sent} images"),
        )
    if json:
        return print_json(report)
    left_out = {"ids", "accuracy", "metric", "account"}
    rows = [
        (name, round(value, 1) if isinstance(value, float) else value)
        for name, value in report.model_dump(exclude=left_out).items()
        if value not in ("", None)
    ]
    missing = "no labels" if stream.labels is None else "no predictions"
    right = percent(report.accuracy) if report.accuracy is not None else missing
    return print_table("Traffic", ("field", "value"), [*rows, (f"{report.metric} of the predictions", right)])


def verify(model: Spec, use_case: UseCaseName = None, json: Json = False) -> None:
    """Retrain a version from its recorded data, code and configuration; exit code 1 if the weights differ."""
    from openmlops.operations.training.reproduce import verify as run

    found = run(Workspace.open(), model)
    if json:
        print_json(found)
    else:
        rows = [(i.name, i.recorded[:16], i.now[:16]) for i in found.changed]
        print_table("Changes since training", ("ingredient", "recorded", "now"), rows)
        say(found.summary)
    if not found.reproduced:
        raise typer.Exit(1)
