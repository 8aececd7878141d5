"""The command line: each command parses, calls one operation and prints.

Only the module of the requested command is imported; heavy libraries are imported inside commands.
"""

import gc
import re
import shlex
import sys
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer

from openmlops.terminal import exit_code, fail, is_utf8, print_error, say
from openmlops.version import __version__

MODULES = {
    "projects": ("init",),
    "data": ("data",),
    "training": ("train", "demo"),
    "grid": ("grid",),
    "search": ("search",),
    "ledger": ("ledger",),
    "models": ("evaluate", "models", "history", "promote", "rollback", "settings"),
    "serving": ("serve", "traffic", "verify"),
    "console": ("console",),
    "monitoring": ("monitor", "cycle", "watch", "decisions", "why"),
    "predictions": ("predictions",),
    "retention": ("prune",),
    "backups": ("backup", "restore"),
    "servers": ("doctor", "stack", "upgrade"),
    "selftest": ("selftest",),
}
"""module -> its commands"""

PANELS = {
    "Get started": ("init", "demo", "doctor", "settings"),
    "Train and evaluate": ("data", "train", "grid", "search", "evaluate", "verify"),
    "Release": ("models", "promote", "rollback", "history", "ledger"),
    "Serve and monitor": ("serve", "traffic", "monitor", "cycle", "watch", "decisions", "why", "predictions", "console"),
    "Infrastructure": ("backup", "restore", "prune", "upgrade", "stack", "selftest"),
}
"""panel of each command in the help"""

COMPLETION = ("--install-completion", "--show-completion")

MOST_OF_A_WORD, MOST_OF_A_LINE = 80, 500
"""characters of arguments that a message repeats: what to do comes after them"""

USAGE = 2
"""exit code of a command that was not understood"""

INTERRUPTED = 130
"""what typer makes of Ctrl-C, which is to be told"""

GC_THRESHOLD = 300_000
"""allocations between two garbage collections; Python's default of 700 runs them repeatedly during imports, which cost a
fifth of the time of a read-only command"""


def main() -> None:
    """Entry point of `openmlops`: 0, or 1 after one line on standard error, 2 if the command was not understood."""
    if not is_utf8():
        from openmlops.settings import restart_in_utf8

        restart_in_utf8()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
    sys.exit(exit_code(_run, "--json" in sys.argv))


def _run() -> None:
    if any(word == "" or re.fullmatch(r"--[a-z-]+=", word) for word in sys.argv[1:]):  # as a folder it would be the current one
        raise _refused(f"An argument of {_given()} is empty. Give a value: a variable of the shell may be unset.")
    if sys.argv[1:2] == ["help"]:
        sys.argv[1:] = [*sys.argv[2:], "--help"]
    if sys.argv[1:2] in ([name] for name in COMPLETION) and len(sys.argv) > 2:
        return _complete(*sys.argv[1:])
    if sys.argv[1:] and not sys.argv[1].startswith("-"):
        _tell_unknown_settings()
    try:
        code = _app(*_modules(sys.argv[1:]))(standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if not isinstance(error, _usage_error()):
            raise
        message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        if message:  # empty if the help was printed for lack of a command
            raise _refused(f"In {_given()}: {_short(message, MOST_OF_A_LINE).rstrip('.')}. See {_help()}.") from None
        raise SystemExit(USAGE) from None
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    raise SystemExit(code or 0)


def _tell_unknown_settings() -> None:
    """A setting that is misspelt passes unseen otherwise."""
    from openmlops.settings import Settings

    for said in Settings.unknown():
        say(f"Warning: {said}")


def _refused(message: str) -> SystemExit:
    """Tell why a command was not understood."""
    fail(message)
    if "--json" in sys.argv:
        print_error(message, "", USAGE)
    return SystemExit(USAGE)


def _help() -> str:
    """The command that prints the help of the one at hand."""
    words = [word for word in sys.argv[1:3] if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
    known = words[:1] if words and any(words[0] in commands for commands in MODULES.values()) else []
    return f"'openmlops {' '.join([*known, '--help'])}'"


def _complete(option: str, shell: str, *rest: str) -> None:
    """Install or show completion for the shell that is named, whichever shell this is."""
    from typer._completion_shared import Shells, get_completion_script, install

    known = [each.value for each in Shells]
    if rest or shell not in known:
        raise _refused(f"In {_given()}: '{_short(shell, MOST_OF_A_WORD)}' is no shell that is known; use {', '.join(known)}.")
    if option == COMPLETION[1]:
        print(get_completion_script(prog_name="openmlops", complete_var="_OPENMLOPS_COMPLETE", shell=shell))
    else:
        _, path = install(shell=shell, prog_name="openmlops", complete_var="_OPENMLOPS_COMPLETE")
        say(f"Completion for {shell} is installed in {path}; it takes effect in a new shell")


def _given() -> str:
    """The command at hand, in quotes."""
    words = shlex.join(_short(word, MOST_OF_A_WORD) for word in sys.argv[1:])
    return f"'openmlops {_short(words, MOST_OF_A_LINE)}'"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _modules(words: list[str]) -> list[str]:
    """The module of the requested command; all modules for help, no command or an unknown one."""
    return [module for module, commands in MODULES.items() if words and words[0] in commands] or list(MODULES)


@cache
def _app(*modules: str) -> typer.Typer:
    """The commands of these modules under `openmlops`."""
    made = typer.Typer(
        name="openmlops",
        help="MLOps for computer vision: version data, train, gate, serve, monitor and retrain.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_options)
    for module in modules:
        import_module(f"openmlops.cli.{module}").add_to(made)
    commands: list[Any] = [*made.registered_commands, *made.registered_groups]
    for command in commands:
        name = command.name or command.callback.__name__
        command.rich_help_panel = next(panel for panel, names in PANELS.items() if name in names)
    return made


def _print_version(requested: bool) -> None:
    if requested:
        print(f"openmlops {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What may be given before a command."""


def _usage_error() -> type[Exception]:
    return next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def __getattr__(name: str) -> typer.Typer:
    """`app`: all commands."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _app(*MODULES)
