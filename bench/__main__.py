"""Run the command as `python -m axiom_bench`, for when its script isn't on the PATH."""

import sys

from axiom_bench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
