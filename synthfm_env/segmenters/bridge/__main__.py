"""Serves a segmenter over standard input and output: ``python -m synthfm_env.segmenters.bridge NAME``."""

import sys

from synthfm_env.errors import InputError
from synthfm_env.segmenters.bridge.server import claim_stdout, serve


def main() -> int:
    """Serve the segmenter that the one argument names; exit status 2 if it cannot be made."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m synthfm_env.segmenters.bridge NAME   (see `synthfm list segmenters`)", file=sys.stderr)
        return 2
    answers = claim_stdout()
    from synthfm_env.segmenters import make_segmenter

    try:
        segmenter = make_segmenter(sys.argv[1])
    except InputError as error:
        print(f"bridge: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    serve(segmenter, sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
