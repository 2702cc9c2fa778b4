"""`python -m ecotta_rt`: the command `ecotta`, where its script is not on the path."""

import sys

from ecotta_rt.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
