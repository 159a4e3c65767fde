"""What Linux's driver logs of a fault record."""

from __future__ import annotations

import re

from viommu_riscv.spec.records import FaultRecord

LINE = re.compile(
    r"\bFault (\d{1,4}) devid: 0x([0-9a-f]{1,6}) iotval: ([0-9a-f]{1,16}) iotval2: ([0-9a-f]{1,16})\s*$", re.ASCII
)


def recognised(line: str) -> tuple[str, bytes] | None:
    """Make a record of a line; what is not logged (the process, the sort of transaction) is zero in it."""
    found = LINE.search(line)
    if found is None or int(found[1]) > FaultRecord.CAUSE.maximum:
        return None
    record = FaultRecord(
        CAUSE=int(found[1]), DID=int(found[2], 16), iotval=int(found[3], 16), iotval2=int(found[4], 16)
    )
    return "event", record.encode()
