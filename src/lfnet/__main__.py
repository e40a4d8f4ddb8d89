"""`python -m lfnet`: the same as the command `lfnet`."""

import sys

from lfnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
