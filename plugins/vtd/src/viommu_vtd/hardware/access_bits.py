"""What an access asks for, as plain numbers: an enum's operators are slow, and every fault comes by here."""

from __future__ import annotations

from viommu.faults import Access

READS = int(Access.READ | Access.EXECUTE)
WRITES = int(Access.WRITE)
EXECUTES = int(Access.EXECUTE)
PRIVILEGED = int(Access.PRIVILEGED)
