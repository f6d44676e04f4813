"""`python -m kernelgate.setup` is `kernelgate setup`, where nothing is installed yet."""

import sys

from kernelgate.setup.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
