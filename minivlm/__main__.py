"""`python -m minivlm` is the command `minivlm`."""

import sys

from minivlm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
