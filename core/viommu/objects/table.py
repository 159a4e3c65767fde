"""The objects of one open file: ids, who holds whom, and what a dead device leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

from attrs import define, field

from viommu.kernel_errors import Busy, NotThere
from viommu.numbers import LowestFree
from viommu.objects.failure import allocation_point

if TYPE_CHECKING:
    from collections.abc import Iterator

ID_LAST = (1 << 31) - 1


@define(eq=False, kw_only=True, repr=False)
class Object:
    """Anything that has an id. ``users`` counts the table itself (1) and everybody who holds the object."""

    kind: ClassVar[str] = "object"

    id: int = 0
    users: int = 1
    published: bool = False
    built: bool = False
    """`destroy` has something to undo, should the call that makes the object fail."""

    @property
    def title(self) -> str:
        """How messages name it: ``IOAS 3``."""
        return f"{self.kind} {self.id}"

    def __repr__(self) -> str:
        return f"<{self.title}, {self.users} users>"

    def hold(self) -> None:
        """Count one user more."""
        self.users += 1

    def drop(self) -> None:
        """Count one user less."""
        if self.users <= 0:
            raise AssertionError(f"{self.title} is dropped more often than it was held")
        self.users -= 1

    def destroy(self) -> None:
        """Undo what the object did; called once, when nobody holds it any more and its id is gone."""


AnObject = TypeVar("AnObject", bound=Object)


@define(eq=False)
class ObjectTable:
    """Ids of one open file, the lowest free one first, from 1."""

    _objects: dict[int, Object | None] = field(factory=dict)  # None: a tombstone
    _ids: LowestFree = field(factory=lambda: LowestFree("id", range(1, ID_LAST + 1)))

    def __iter__(self) -> Iterator[Object]:
        """Give the published objects by id."""
        for number in sorted(self._objects):
            found = self._objects.get(number)  # whoever iterates may destroy
            if found is not None and found.published:
                yield found

    def __len__(self) -> int:
        return sum(found is not None for found in self._objects.values())

    @property
    def is_empty(self) -> bool:
        """Whether no id is taken, tombstones included."""
        return not self._objects

    def reserve(self, new: AnObject) -> AnObject:
        """Give an object its id; nobody finds it yet. Raises NoSpace."""
        allocation_point(f"id of {new.kind}")
        new.id = self._ids.take(new.kind)
        self._objects[new.id] = new
        return new

    def publish(self, new: Object) -> None:
        """Let the object be found."""
        new.published = True

    def abort(self, new: Object) -> None:
        """Take back the id of an object that was reserved, or that is destroyed."""
        del self._objects[new.id]
        self._ids.give_back(new.id)
        new.published = False

    def bury(self, dead: Object) -> None:
        """Take an object out, and keep its id from ever naming another."""
        self._objects[dead.id] = None
        dead.published = False

    def find(self, number: int, kind: type[AnObject], field_name: str) -> AnObject:
        """Give the object of this id and type. Raises NotThere, which names the struct's field."""
        allocation_point(f"look-up of {kind.kind} {number}", NotThere.code)
        found = self._objects.get(number)
        if found is None or not found.published or not isinstance(found, kind):
            raise NotThere(kind.kind, field_name, number, f"no {kind.kind} of this open file has the id")
        return found

    def any(self, number: int, field_name: str = "id") -> Object:
        """Give the object of this id, whatever it is. Raises NotThere."""
        return self.find(number, Object, field_name)

    def destroy(self, target: Object) -> None:
        """Destroy an object that nobody holds. Raises Busy."""
        if target.users > 1:
            raise Busy(target.title, "users", target.users - 1, "something still holds it; destroy that first")
        self.abort(target)
        target.users = 0
        target.destroy()

    def discard(self, target: Object) -> None:
        """Destroy an object for its owner, who holds nothing of it any more."""
        target.users = 1
        self.destroy(target)
