"""Programs that speak the wire as they like: the service goes on for others, and keeps nothing of theirs."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from viommu import Machine
from viommu.iommufd.user_memory import User
from viommu.service import service as service_module
from viommu.service.files import Files
from viommu.service.link import Link
from viommu.service.programs import Program
from viommu.service.service import Service
from viommu.service.wire import MOST_BYTES, Gone, Op, Packet
from viommu.vfio.devices import Devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

IOAS_ALLOC, FAULT_QUEUE_ALLOC = 0x3B81, 0x3B8E
ALLOC, QUEUE = bytes([12]) + bytes(11), bytes([16]) + bytes(15)
MOST, PLACE = (1 << 64) - 1, 0x10000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Machine("selftest") as machine:
        made = Service(tmp_path / "socket", machine, Devices(machine))
        yield made
        made.close()


class Connection:
    """One thread of a program, by hand."""

    def __init__(self, path: Path, *, helper: bool = False, token: bytes = b"t" * 16) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(30)
        self.socket.connect(str(path / "socket"))
        self.memory = dict[int, bytes]()
        Packet.of(Op.HELLO, int(helper), payload=token).send(self.socket)

    def answer(self, question: Packet) -> Packet:
        """Answer what the service asks back, as a program would that has only `memory`."""
        address, size, *_ = question.words
        if question.op == Op.PEEK:
            return Packet.of(Op.ANSWER, payload=self.memory.get(address, b"").ljust(size, b"\0")[:size])
        return Packet.of(Op.ANSWER)

    def call(self, op: int, *words: int) -> Packet:
        Packet.of(op, *words).send(self.socket)
        while (got := Packet.receive(self.socket)).op != Op.ANSWER:
            if got.fd is not None:
                os.close(got.fd)
            self.answer(got).send(self.socket)
        return got

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def open(self) -> tuple[int, int]:
        """Open /dev/iommu: its number, and its descriptor."""
        fd = self.call(Op.OPEN).fd
        assert fd is not None
        return os.fstat(fd).st_ino, fd


def ends(connection: Connection) -> bool:
    try:
        while True:
            Packet.receive(connection.socket)
    except Gone:
        return True


def works(path: Path) -> bool:
    """Whether somebody else is served."""
    with Connection(path, token=os.urandom(16)) as other:
        number, fd = other.open()
        other.memory[0x1000] = ALLOC
        result = other.call(Op.IOCTL, number, IOAS_ALLOC, 0x1000).result
        os.close(fd)
        return result == 0


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("raw", [b"x", bytes(48), b"\xff" * 48, bytes(MOST_BYTES)])
def test_what_is_no_packet_ends_its_connection_alone(tmp_path: Path, raw: bytes) -> None:
    with Connection(tmp_path) as stranger:
        stranger.socket.send(raw)
        stranger.socket.shutdown(socket.SHUT_WR)
        assert ends(stranger)
    assert works(tmp_path)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("op", [*map(int, Op), 0, 99, (1 << 32) - 1])
def test_no_question_is_too_strange(tmp_path: Path, op: int) -> None:
    with Connection(tmp_path) as asker:
        number, fd = asker.open()
        for words in ((number, *[MOST] * 3), (MOST,) * 4, (number, IOAS_ALLOC, MOST - 7)):
            answer = asker.call(op, *words)
            if answer.fd is not None:
                os.close(answer.fd)
        os.close(fd)
    assert works(tmp_path)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.usefixtures("service")
def test_descriptors_that_nobody_asked_for_are_closed(tmp_path: Path) -> None:
    with Connection(tmp_path) as asker:
        number, fd = asker.open()
        before = open_descriptors()
        for op in (Op.OWNS, Op.IOCTL, Op.READ, 99):
            Packet.of(op, number, IOAS_ALLOC, fd=fd).send(asker.socket)
            while Packet.receive(asker.socket).op != Op.ANSWER:
                Packet.of(Op.ANSWER, fd=fd).send(asker.socket)
        socket.send_fds(asker.socket, [bytes(47)], [fd] * 200)
        assert ends(asker)
    assert comes_true(lambda: open_descriptors() <= before - 2)  # both ends of the connection
    os.close(fd)


@pytest.mark.parametrize(
    "area",
    [
        (0, 0, 7, 0),
        (PLACE, PLACE, 7, 0),
        (2 * PLACE, PLACE, 7, 0),
        (PLACE + 1, 2 * PLACE, 7, 1),
        (0, 1 << 63, 7, 0),
        (PLACE, 1 << 40, 7, 0),
    ],
)
def test_what_a_program_says_of_its_memory_is_not_believed(area: tuple[int, ...]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memfd = os.memfd_create("short")
    os.ftruncate(memfd, 4096)

    def lie() -> None:
        with suppress(Gone):
            while True:
                asked = Packet.receive(theirs)
                lies = asked.op == Op.AREA
                answer = Packet.of(Op.ANSWER, *area, fd=memfd) if lies else Packet.of(Op.ANSWER)
                answer.send(theirs)

    liar = threading.Thread(target=lie, daemon=True)
    liar.start()
    with Machine("selftest") as machine, ours, theirs:
        program = Program(os.getpid(), machine.memory, Files(), User())
        program.help_by(Link(ours))
        before = open_descriptors()
        assert program.pin(PLACE, 8, write=True) is None
        assert open_descriptors() == before
        assert program.read(PLACE, 8) is None
        program.close()
    liar.join(timeout=30)
    os.close(memfd)


@pytest.mark.usefixtures("service")
def test_a_program_that_never_answers_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "SECONDS", 1)
    with Connection(tmp_path) as silent, Connection(tmp_path, token=b"o" * 16) as other:
        number, fd = silent.open()
        Packet.of(Op.IOCTL, number, IOAS_ALLOC, 0x1000).send(silent.socket)
        assert Packet.receive(silent.socket).op == Op.PEEK
        other.memory[0x1000] = ALLOC
        assert other.call(Op.IOCTL, number, IOAS_ALLOC, 0x1000).result == 0  # on the same file
        assert ends(silent)
        os.close(fd)


def answers_after(seconds: float) -> tuple[socket.socket, socket.socket]:
    """Make a program that answers each question so late: our end, and its."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def answer() -> None:
        with suppress(Gone):
            while True:
                Packet.receive(theirs)
                time.sleep(seconds)
                Packet.of(Op.ANSWER).send(theirs)

    threading.Thread(target=answer, daemon=True).start()
    return ours, theirs


def test_a_program_whose_answers_are_all_slow_is_done_without() -> None:
    """Each comes within the time that one may take."""
    ours, theirs = answers_after(0.05)
    with ours, theirs:
        link = Link(ours, patience=0.4)
        answers = list[Packet]()
        with suppress(Gone):
            while len(answers) < 20:
                answers.append(link.ask(Packet.of(Op.PEEK, 0, 8)))
        assert 1 <= len(answers) < 20
        assert not link.is_open


def test_a_program_may_be_asked_as_often_as_it_answers_at_once() -> None:
    ours, theirs = answers_after(0)
    with ours, theirs:
        link = Link(ours, patience=5)
        for _ in range(2000):
            link.ask(Packet.of(Op.PEEK, 0, 8))
        assert link.is_open
        link.close()


def test_a_service_ends_while_a_program_does_not_answer(tmp_path: Path) -> None:
    with Machine("selftest") as machine:
        service = Service(tmp_path / "socket", machine, Devices(machine))
        with Connection(tmp_path, helper=True) as helper, Connection(tmp_path) as silent:
            assert Packet.receive(helper.socket).op == Op.ANSWER
            number, fd = silent.open()
            Packet.of(Op.IOCTL, number, IOAS_ALLOC, 0x1000).send(silent.socket)
            assert Packet.receive(silent.socket).op == Op.PEEK
            closing = threading.Thread(target=service.close, daemon=True)
            closing.start()
            closing.join(timeout=20)
            assert not closing.is_alive()
            assert ends(silent)
            assert ends(helper)
            os.close(fd)


def test_programs_that_came_and_went_are_forgotten(service: Service, tmp_path: Path) -> None:
    for turn in range(30):
        with Connection(tmp_path, token=turn.to_bytes(16, "little")) as passing:
            assert passing.call(Op.OWNS, 1).result == 0
    assert comes_true(lambda: not service._programs)


def test_a_program_whose_helper_is_the_last_to_go_is_forgotten(service: Service, tmp_path: Path) -> None:
    with Connection(tmp_path, helper=True) as helper:
        assert Packet.receive(helper.socket).op == Op.ANSWER
        with Connection(tmp_path) as asker:
            assert asker.call(Op.OWNS, 1).result == 0
        assert comes_true(lambda: not any(program.connections for program in service._programs.values()))
        assert service._programs
    assert comes_true(lambda: not service._programs)


@pytest.mark.usefixtures("service")
def test_closing_files_and_making_files_meet_without_a_deadlock(tmp_path: Path) -> None:
    """A call adds files with its context locked; releasing them locks contexts."""

    def work(token: int) -> None:
        with Connection(tmp_path, token=bytes([token]) * 16) as asker:
            asker.memory[0x1000] = QUEUE
            for _ in range(40):
                assert asker.call(Op.IOCTL, number, FAULT_QUEUE_ALLOC, 0x1000).result == 0

    with Connection(tmp_path) as opener:
        number, fd = opener.open()
        workers = [threading.Thread(target=work, args=(token,), daemon=True) for token in (1, 2, 3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=30)
            assert not worker.is_alive()
        os.close(fd)
