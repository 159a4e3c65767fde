"""Files that are handed in with MAP_FILE where no record tells of them: memfds, if no probe's name says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.oracle.memory_records import MemoryFile, OtherFile
from viommu.oracle.probe_steps import MEMFD_BYTES, NO_FILE, PIPE
from viommu.oracle.processes import OpenFile

if TYPE_CHECKING:
    from viommu.oracle.processes import Process
    from viommu.oracle.recording import Record


def prepare_files(process: Process, record: Record) -> None:
    """Open the file of a MAP_FILE if it is none of ours: what its probe's name says, else a memfd."""
    if record.fields.get("name") != "IOMMU_IOAS_MAP_FILE" or not record.has("in"):
        return
    struct = record.blob("in")
    fd = int.from_bytes(struct[12:16], "little", signed=True)
    if len(struct) < 16 or fd < 0 or process.file(fd) is not None or NO_FILE.search(record.probe):
        return
    if PIPE.search(record.probe):
        process.open_at(fd, OpenFile(OtherFile()))
        return
    pages = process.world.shared(f"file of fd {fd}")
    pages.resize(MEMFD_BYTES)
    process.open_at(fd, OpenFile(MemoryFile(pages)))
