"""The offline ranker as a program of its own: `python -m pipeline.offline_ranker`."""

import sys
from collections.abc import Sequence

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.options import read_options
from pipeline.offline_ranker.serving import serve


def main(arguments: Sequence[str]) -> int:
    """Serve as told and return the exit status; 2, with one line on stderr, for what cannot be done."""
    try:
        return serve(read_options(arguments))
    except ConfigurationError as error:
        print(f"recstream offline-ranker: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
