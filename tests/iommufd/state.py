"""Everything that a failed call must leave as it was, in values that can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viommu.objects.ioas import Ioas

if TYPE_CHECKING:
    from tests.iommufd.client import Client

State = dict[str, Any]


def state_of(client: Client) -> State:
    """The ids, who holds whom, what every IOAS maps, what is pinned and charged, what is open."""
    table = client.file.context.table
    account = client.process.account
    return {
        "objects": {found.id: (type(found).__name__, found.users) for found in table},
        "reserved ids": len(table),
        "ioas": {found.id: ioas_state(found) for found in table if isinstance(found, Ioas)},
        "pins": pins_of(client),
        "account": (account.pinned, account.locked, account.user.locked),
        "fds": sorted(client.process.files),
    }


def pins_of(client: Client) -> dict[int, int]:
    """How often each page of the process is pinned, by address."""
    pages = client.process._anonymous.pages
    return {index: page.pin_count for index, page in pages.items() if page.pin_count}


def differences(before: State, after: State) -> dict[str, tuple[Any, Any]]:
    """What is not as it was."""
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def ioas_state(ioas: Ioas) -> tuple[object, ...]:
    """What an IOAS maps, keeps free and follows."""
    space = ioas.space
    return (
        [(area.start, area.last, int(area.prot), area.accesses, area.locks, len(area.filled)) for area in space.areas],
        sorted((reserved.start, reserved.last) for reserved in space.reserved),
        space.allowed,
        space.alignment,
        ioas.huge_pages,
        (len(ioas.domains), len(ioas.hwpts), len(ioas.accesses)),
    )
