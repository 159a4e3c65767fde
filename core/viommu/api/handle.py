"""What all objects of an open file have in common for Python: an id, and an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from attrs import define, field

from viommu.iommufd import uapi

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from viommu.iommufd.fd import IommuFd
    from viommu.iommufd.local import LocalProcess
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.objects.table import AnObject

S = TypeVar("S", bound="UapiStruct")


class Caller(Protocol):
    """Who makes ioctls: an `viommu.api.iommufd.Iommufd`."""

    file: IommuFd
    process: LocalProcess

    def call(self, cmd: S) -> S:
        """Make the ioctl of a structure; what it is afterwards. Raises KernelError."""

    def found(self, number: int, kind: type[AnObject]) -> AnObject:
        """Give what stands behind an id. Raises NotThere."""


@define(eq=False, repr=False)
class Handle:
    """An object by its id. At the end of a ``with`` block it is destroyed, as `destroy` does."""

    iommufd: Caller
    id: int
    is_alive: bool = field(default=True, init=False)

    @property
    def label(self) -> str:
        """How messages and representations name it."""
        return f"{type(self).__name__} {self.id}"

    def __repr__(self) -> str:
        return f"<{self.label}{self._told()}{'' if self.is_alive else ', destroyed'}>"

    def _told(self) -> str:
        """Say more than the id, beginning with a space or comma."""
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_alive:
            self.destroy()

    def destroy(self) -> None:
        """Destroy it. Raises Busy while something holds it."""
        self.iommufd.call(uapi.Destroy.of(id=self.id))
        self.is_alive = False
