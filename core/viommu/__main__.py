"""``python -m viommu``."""

from __future__ import annotations

import sys

from viommu.cli import main

sys.exit(main())
