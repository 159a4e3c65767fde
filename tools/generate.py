"""Write what is generated from the uAPI's structures: viommu.h, the reference of ioctls. `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.c_header import header
from tools.ioctl_reference import reference

ROOT = Path(__file__).parents[1]
GENERATED = {
    ROOT / "core/viommu/include/viommu.h": header,
    ROOT / "docs/ioctls.md": reference,
}


def main(arguments: list[str]) -> int:
    """Write every file that differs; with --check say which do, and fail."""
    different = [path for path, make in GENERATED.items() if not path.exists() or path.read_text() != make()]
    for path in different:
        print(path.relative_to(ROOT))
        if "--check" not in arguments:
            path.write_text(GENERATED[path]())
    return int("--check" in arguments and bool(different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
