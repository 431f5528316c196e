"""``python -m ovgen`` is the ``ovgen`` command."""

import sys

from ovgen.cli import main

if __name__ == "__main__":
    sys.exit(main())
