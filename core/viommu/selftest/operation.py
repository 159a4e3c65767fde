"""One operation of the test command in progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import define, field

from viommu.iommufd.uapi_struct import UapiStruct

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.dispatch import Call
    from viommu.iommufd.uapi import TestCmd
    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.context import Context
    from viommu.objects.table import ObjectTable

S = TypeVar("S", bound=UapiStruct)


@define(eq=False)
class Operation(Generic[S]):
    """``body`` is what the command's body means; ``undoers`` undo what was done, should the reply fail."""

    call: Call[TestCmd]
    body: S
    undoers: list[Callable[[], object]] = field(factory=list)

    @property
    def id(self) -> int:
        """The command's ``id``."""
        return self.call.cmd.id

    @property
    def context(self) -> Context:
        """The open file."""
        return self.call.context

    @property
    def table(self) -> ObjectTable:
        """The objects of the open file."""
        return self.call.context.table

    @property
    def process(self) -> UserProcess:
        """Who calls."""
        return self.call.process

    def undo(self) -> None:
        """Undo what was done, the last first."""
        for undo in reversed(self.undoers):
            undo()
