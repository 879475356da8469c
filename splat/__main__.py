"""``python -m splat`` is ``splat``."""

import sys

from splat.cli import main

sys.exit(main())
