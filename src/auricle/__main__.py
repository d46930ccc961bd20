"""`python -m auricle` is `auricle`."""

from __future__ import annotations

import sys

from auricle.cli import main

sys.exit(main())
