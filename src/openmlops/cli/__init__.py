"""The command line: one command = parse, one call, print. Heavy libraries are imported inside the commands that need them."""

import shlex
import sys
from typing import Any

import typer

from openmlops.cli import console, data, grid, models, monitoring, projects, servers, serving, training
from openmlops.terminal import exit_code, fail

PANELS = {
    "Begin": ("init", "demo", "doctor", "settings"),
    "Make a model": ("data", "train", "grid", "evaluate", "verify"),
    "Decide what is live": ("models", "promote", "rollback", "history"),
    "Serve and watch": ("serve", "traffic", "monitor", "cycle", "watch", "decisions", "why", "console"),
    "On servers": ("stack",),
}
"""where a command stands in the help"""

app = typer.Typer(
    name="openmlops",
    help="The closed loop for computer-vision models: data, training, gate, ledger.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
projects.add_to(app)
app.add_typer(data.app, name="data")
training.add_to(app)
grid.add_to(app)
models.add_to(app)
serving.add_to(app)
console.add_to(app)
monitoring.add_to(app)
servers.add_to(app)
_commands: list[Any] = [*app.registered_commands, *app.registered_groups]
for _command in _commands:
    _name = _command.name or _command.callback.__name__
    _command.rich_help_panel = next(panel for panel, names in PANELS.items() if _name in names)

_USAGE_ERROR: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main() -> None:
    """Entry point of `openmlops`: 0, or 1 after one line on standard error."""
    sys.exit(exit_code(_run))


def _run() -> None:
    try:
        code = app(standalone_mode=False)
    except _USAGE_ERROR as error:
        message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        if message:  # empty where the help was shown for lack of a command
            fail(f"In 'openmlops {shlex.join(sys.argv[1:])}': {message.rstrip('.')}. See 'openmlops --help'.")
        raise SystemExit(1) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    raise SystemExit(code or 0)
