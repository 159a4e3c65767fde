"""The ONE table of ioctls: number, structure, handler. Handlers read as the kernel's order of checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd import uapi
from viommu.iommufd.dispatch import TYPE_LETTER, Ioctl

if TYPE_CHECKING:
    from viommu.iommufd.dispatch import AnyIoctl, Call


def destroy(call: Call[uapi.Destroy]) -> None:
    """IOMMU_DESTROY: an object of any type that nobody holds."""
    table = call.context.table
    table.destroy(table.any(call.cmd.id))


def _row(name: str, low: int, struct: type, handler: object, replies: bool = True) -> AnyIoctl:
    return Ioctl(f"IOMMU_{name}", TYPE_LETTER << 8 | low, struct, handler, replies)  # type: ignore[arg-type]


ROWS = (
    _row("DESTROY", 0x80, uapi.Destroy, destroy, replies=False),
)

TABLE: dict[int, AnyIoctl] = {row.number & 0xFF: row for row in ROWS}
