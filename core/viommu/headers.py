"""Where C finds ``viommu.h``."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """Give the folder of ``viommu.h``, for a compiler's -I."""
    return str(Path(__file__).parent / "include")
