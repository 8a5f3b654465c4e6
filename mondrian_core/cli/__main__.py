"""`python -m mondrian_core.cli` is `mondrian`."""

import sys

from mondrian_core.cli import main

sys.exit(main())
