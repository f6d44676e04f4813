"""`python -m kernelgate` is the `kernelgate` command."""

import sys

from kernelgate.cli import main

if __name__ == "__main__":
    sys.exit(main())
