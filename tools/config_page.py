"""Writes docs/config.md: how a machine is described in a file, from the keys that the reader of such files has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from viommu.service.config_keys import DEVICE, IOTLB, POLICY, REGISTER, TOP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.service.config_keys import Key

PAGE = Path(__file__).parents[1] / "docs" / "config.md"
HEAD = """# Machines from a file

`viommu run --config FILE`, `viommu serve`, `viommu rerun` and the fixture `viommu_machine` take a machine from a
TOML file:

```toml
driver = "vtd"
uapi = "7.2"

[iotlb]
entries = 4096
ways = 8

[policy]
late_stage2 = true

[[device]]
model = "nvme"
at = "00:10.0"
size = "64M"
```

A whole machine of each vendor is in the folder `examples`: `machine_vtd.toml`, `machine_smmuv3.toml`,
`machine_amd.toml`. A file has at most 1 MiB. What is wrong in it is told in one line: the key, its value, and what it
may be.

This page is written by `tools/config_page.py` from what the reader checks.
"""
TABLES = (
    ("At the top", "", TOP),
    (
        "`[registers]`",
        "What is not named is as the driver has it at reset. Names that the hardware has not are not looked at.",
        (REGISTER,),
    ),
    ("`[iotlb]`", "What is not named is as the engine has it.", IOTLB),
    ("`[policy]`", "The switches are [explained](iommufd.md#ahead-of-mainline) where /dev/iommu is.", POLICY),
    ("`[[device]]`", "Any other key is an option of the model, which the model checks.", DEVICE),
)


def page() -> str:
    """Give the page."""
    parts = [HEAD, *(f"## {title}\n\n{_told(text)}{_table(keys)}\n" for title, text, keys in TABLES)]
    return "\n".join(parts)


def _told(text: str) -> str:
    return f"{text}\n\n" if text else ""


def _table(keys: Iterable[Key]) -> str:
    rows = [f"| `{key.name}` | {key.may_be} | {_default(key)} | {key.meaning} |" for key in keys]
    return "\n".join(["| key | may be | default | is |", "|---|---|---|---|", *rows])


def _default(key: Key) -> str:
    return "none" if key.default in (None, {}, []) else f"`{json.dumps(key.default)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
