"""The ``synthfm`` command, with one file for each subcommand."""

import signal
import sys


def main() -> None:
    """Run the command. Its modules are imported here, so that Ctrl-C is one line while they load, too."""
    try:
        from synthfm_bench.cli.app import main as run
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one
        print("synthfm: stopped", file=sys.stderr)
        sys.exit(130)
    run()


__all__ = ["main"]
