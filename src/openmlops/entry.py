"""The script `openmlops`. Importing this module takes care of Ctrl-C, before anything else is imported: there is nothing to
clean up yet, so it ends the process at once. Import it nowhere else."""

import _signal  # `signal` imports `enum`, during which Ctrl-C would be a traceback
import os

SAID = b"Interrupted; the same command resumes.\n"
CODE = 130


def _end(number: int, frame: object) -> None:
    os.write(2, SAID)
    os._exit(CODE)


if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:  # as a shell's background jobs have it
    _signal.signal(_signal.SIGINT, _end)


def main() -> None:
    """Run the command line."""
    from openmlops import interruption

    try:
        from openmlops.cli import main as run

        run()
    except SystemExit as ended:
        if ended.code == interruption.CODE:
            interruption.leave()
        raise
    except KeyboardInterrupt:
        interruption.end()
