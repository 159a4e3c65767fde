"""Lines that Linux's arm-smmu-v3 driver, and its part for Tegra241's CMDQV, write into the kernel log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.spec.cmdqv_messages import CmdqvErrorMaps, VcmdqState
from viommu_smmuv3_cmdqv.spec.page_requests import PageRequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = re.compile(r"\barm-smmu-v3\b|\btegra241_cmdqv\b")
WORD = re.compile(r"(?:^|[\s,])0x([0-9a-f]{16})(?=[\s,]|$)", re.IGNORECASE)
EVENT = re.compile(r"\bevent 0x([0-9a-f]{2}) received:", re.IGNORECASE)
SKIPPED = re.compile(r"\bskipping command in error state:")
GLOBAL_ERROR = re.compile(r"\bunexpected global error reported \(0x([0-9a-f]{8})\)", re.IGNORECASE)
COMMAND_ERROR = re.compile(r"\bCMDQ error \(cons 0x([0-9a-f]{8})\)", re.IGNORECASE)
PAGE_REQUEST = re.compile(
    r"\bsid 0x([0-9a-f]{8})\.0x([0-9a-f]{5}): \[(\d{1,3})(L?)\] (un)?privileged (R?)(W?)(X?) access"
    r" at iova 0x([0-9a-f]{16})",
    re.IGNORECASE,
)
ERROR_MAPS = re.compile(
    r"\bunexpected error reported\. vintf_map: ([0-9a-f]{16}), vcmdq_map"
    r" ([0-9a-f]{8}):([0-9a-f]{8}):([0-9a-f]{8}):([0-9a-f]{8})",
    re.IGNORECASE,
)
VCMDQ_STATE = re.compile(
    r"\bLVCMDQ\d{1,3}: GERRORN=0x([0-9a-f]{1,8}), GERROR=0x([0-9a-f]{1,8}), CONS=0x([0-9a-f]{1,8})", re.IGNORECASE
)
EVENT_WORDS, COMMAND_WORDS = 4, 2


def recognise(line: str) -> tuple[str, bytes] | None:
    """Give kind and bytes of what a line tells (or of several lines that tell it together), if it is our kernel's."""
    if not OURS.search(line):
        return None
    for pattern, read in _READERS:
        found = pattern.search(line)
        if found is not None:
            return read(found, line[found.end() :])
    return None


def _words(kind: str, count: int) -> Callable[[re.Match[str], str], tuple[str, bytes] | None]:
    """Read a dump of 64-bit words after the line that announces it; None where it is not complete."""

    def read(_: re.Match[str], rest: str) -> tuple[str, bytes] | None:
        words = WORD.findall(rest)
        if len(words) != count:
            return None
        return kind, b"".join(int(word, 16).to_bytes(8, "little") for word in words)

    return read


def _register(kind: str) -> Callable[[re.Match[str], str], tuple[str, bytes]]:
    return lambda found, _: (kind, int(found[1], 16).to_bytes(4, "little"))


def _page_request(found: re.Match[str], _: str) -> tuple[str, bytes] | None:
    group = int(found[3])
    if group > PageRequestRecord.PRGIndex.maximum:
        return None
    substream = int(found[2], 16)  # the kernel writes 0 for a request without one
    request = PageRequestRecord(
        SID=int(found[1], 16),
        SSID=substream,
        SSID_V=bool(substream),
        PRGIndex=group,
        Last=bool(found[4]),
        Priv=not found[5],
        Read=bool(found[6]),
        Write=bool(found[7]),
        Exec=bool(found[8]),
        Address=int(found[9], 16) & PageRequestRecord.Address.maximum,
    )
    return "page-request", request.encode()


def _error_maps(found: re.Match[str], _: str) -> tuple[str, bytes]:
    """The kernel writes the map of the highest VCMDQs first."""
    vintfs, *queues = (int(digits, 16) for digits in found.groups())
    maps = {f"CMDQ_ERR_MAP{3 - n}": value for n, value in enumerate(queues)}
    return "cmdqv-error-maps", CmdqvErrorMaps(VINTF_ERR_MAP=vintfs, **maps).encode()


def _vcmdq_state(found: re.Match[str], _: str) -> tuple[str, bytes]:
    words = (int(digits, 16).to_bytes(4, "little") for digits in found.groups())
    return "vcmdq-state", VcmdqState.decode(b"".join(words)).encode()


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str], tuple[str, bytes] | None]], ...] = (
    (EVENT, _words("event", EVENT_WORDS)),
    (SKIPPED, _words("command", COMMAND_WORDS)),
    (GLOBAL_ERROR, _register("gerror")),
    (COMMAND_ERROR, _register("cmdq_cons")),
    (PAGE_REQUEST, _page_request),
    (ERROR_MAPS, _error_maps),
    (VCMDQ_STATE, _vcmdq_state),
)
