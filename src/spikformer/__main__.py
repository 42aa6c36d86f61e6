"""`python -m spikformer` is `spikformer`."""

import sys

from spikformer.cli import main

sys.exit(main())
