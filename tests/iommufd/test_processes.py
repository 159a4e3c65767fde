from __future__ import annotations

from viommu.oracle import memory_records
from viommu.oracle.processes import Process, World
from viommu.oracle.recording import Record

PAGE = 4096
AT = 0x7F00_0000_0000


class Told:
    """A world, and memory records told to it."""

    def __init__(self) -> None:
        self.world = World()

    def tell(self, call: str, process: int = 0, **fields: object) -> None:
        fields = {"ret": 0, "errno": "0"} | fields
        memory_records.apply(self.world, Record("f", 1, fields, "t", "", process, call, "memory", 0))

    def process(self, number: int = 0) -> Process:
        return self.world.process(number)

    def shared(self, start: int, pages: int, obj: str = "00:01:7", offset: int = 0, prot: int = 3) -> None:
        self.tell("mmap", ret=hex(start), length=pages * PAGE, prot=prot, flags=1, obj=obj, offset=offset)

    def private(self, start: int, pages: int, prot: int = 3) -> None:
        self.tell("mmap", ret=hex(start), length=pages * PAGE, prot=prot, flags=0x22, offset=0)


def test_two_mappings_of_one_object_are_the_same_page() -> None:
    told = Told()
    told.shared(AT, 4)
    told.shared(AT + 0x100000, 2, offset=PAGE)
    process = told.process()
    assert process.page(AT + PAGE) is process.page(AT + 0x100000)
    assert process.page(AT) is not process.page(AT + PAGE)


def test_what_is_unmapped_is_no_memory() -> None:
    told = Told()
    told.private(AT, 3)
    told.tell("munmap", addr=hex(AT + PAGE), length=PAGE)
    process = told.process()
    assert [process.page(AT + n * PAGE) is None for n in range(3)] == [False, True, False]
    assert process.read(AT + 100, PAGE) is None


def test_rights_decide_what_may_be_faulted_in() -> None:
    told = Told()
    told.private(AT, 1, prot=1)
    assert told.process().page(AT) is not None
    assert told.process().page(AT, write=True) is None
    told.tell("mprotect", addr=hex(AT), length=PAGE, prot=3)
    assert told.process().page(AT, write=True) is not None


def test_a_page_keeps_its_identity_when_it_moves() -> None:
    told = Told()
    told.private(AT, 2)
    page = told.process().page(AT + PAGE)
    told.tell("mremap", addr=hex(AT), length=2 * PAGE, new_length=2 * PAGE, ret=hex(AT + 0x200000))
    assert told.process().page(AT + 0x200000 + PAGE) is page
    assert told.process().page(AT) is None


def test_fork_shares_shared_memory_and_copies_the_private() -> None:
    told = Told()
    told.shared(AT, 1)
    told.private(AT + 0x100000, 1)
    told.process().write(AT + 0x100000, b"before")
    told.tell("fork", child=1)
    parent, child = told.process(0), told.process(1)
    assert parent.page(AT) is child.page(AT)
    assert parent.page(AT + 0x100000) is not child.page(AT + 0x100000)
    assert child.read(AT + 0x100000, 6) == b"before"
    child.write(AT + 0x100000, b"after!")
    assert parent.read(AT + 0x100000, 6) == b"before"


def test_after_exit_there_is_neither_memory_nor_an_open_file() -> None:
    told = Told()
    told.private(AT, 1)
    told.tell("memfd_create", flags=0, obj="00:01:9", ret=3)
    told.tell("exit", status=0)
    process = told.process()
    assert (process.alive, process.page(AT), process.file(3)) == (False, None, None)


def test_a_file_ends_where_it_was_truncated() -> None:
    told = Told()
    told.tell("memfd_create", flags=0, obj="00:01:9", ret=3)
    told.tell("ftruncate", fd=3, length=2 * PAGE, obj="00:01:9")
    told.shared(AT, 4, obj="00:01:9")
    process = told.process()
    assert process.page(AT + PAGE) is not None
    assert process.page(AT + 2 * PAGE) is None
    assert process.file(3).size == 2 * PAGE


def test_a_snapshot_replaces_what_it_covers_and_keeps_private_pages() -> None:
    told = Told()
    told.private(AT, 2)
    told.private(AT + 0x100000, 1)
    page = told.process().page(AT)
    row = {"start": hex(AT), "end": hex(AT + PAGE), "prot": 3, "shared": False}
    told.tell("maps", range=[hex(AT), hex(AT + 2 * PAGE)], ranges=[row])
    process = told.process()
    assert process.page(AT) is page
    assert process.page(AT + PAGE) is None
    assert process.page(AT + 0x100000) is not None
    told.tell("maps", full=True, ranges=[row])
    assert process.page(AT + 0x100000) is None


def test_huge_pages_are_one_run_of_frames_and_ordinary_ones_are_not() -> None:
    told = Told()
    told.tell("mmap", ret=hex(AT), length=2 << 20, prot=3, flags=0x48021, obj="00:01:3", offset=0)
    told.shared(AT + 0x40000000, 2, obj="00:01:4")
    process = told.process()
    frames = [process.page(at).frame for at in (AT, AT + PAGE, AT + 0x40000000, AT + 0x40000000 + PAGE)]  # type: ignore[union-attr]
    assert frames[1] == frames[0] + 1
    assert frames[3] != frames[2] + 1
    assert process.page(AT).compound  # type: ignore[union-attr]


def test_a_forked_fd_stays_open_until_the_last_one_is_closed() -> None:
    told = Told()
    released = []

    class File:
        def release(self) -> None:
            released.append(self)

    fd = told.process().install(File())
    told.tell("fork", child=1)
    assert told.process().close(fd) == 0
    assert not released
    told.tell("exit", process=1, status=0)
    assert len(released) == 1
    assert told.process().close(fd) == -9


def test_no_bytes_at_an_address_show_no_memory_there() -> None:
    process = Told().process()
    process.ensure(AT + 5, AT + 5)
    assert process.page(AT) is None
    process.ensure(AT + 5, AT + 6)
    assert process.page(AT) is not None
