"""`python -m mondrian` is `mondrian`."""

import sys

from mondrian import main

sys.exit(main())
