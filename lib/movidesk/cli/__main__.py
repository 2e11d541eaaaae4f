"""`python -m movidesk.cli`."""

from __future__ import annotations

import sys

from movidesk.cli import main

sys.exit(main())
