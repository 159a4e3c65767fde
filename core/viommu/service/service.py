"""The service: who connects, and what each asks."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from contextlib import suppress
from threading import RLock, Thread
from typing import TYPE_CHECKING

import structlog

from viommu.iommufd import uapi
from viommu.iommufd.handlers import ROWS
from viommu.iommufd.user_memory import User
from viommu.kernel_errors import KernelError
from viommu.service import calls
from viommu.service.calls import result
from viommu.service.course import Course
from viommu.service.files import Files
from viommu.service.link import Link
from viommu.service.mappings import Mappings
from viommu.service.nodes import opened
from viommu.service.notes import take_note
from viommu.service.programs import Program
from viommu.service.wire import NOT_OURS, TOKEN_BYTES, Gone, Op, Packet, Silent

if TYPE_CHECKING:
    from pathlib import Path

    from viommu.machine import Machine
    from viommu.service.calls import Caller
    from viommu.service.files import Served
    from viommu.vfio.devices import Devices

log = structlog.get_logger()

CREDENTIALS = struct.Struct("3i")
TIMEVAL = struct.Struct("ll")
SECONDS = 30
"""A program that answers no question for so long, while others may wait for what it holds, is done without."""
PAUSE = 0.05
"""Seconds, before a connection is accepted that could not be."""
DESTROY = next(row.number for row in ROWS if row.struct is uapi.Destroy)
HELPER, REACHABLE = 1, 2
"""A greeting's first word: this connection answers, and asks nothing; or what calls point to may be read directly."""


class Service:
    """Serves a machine's /dev/iommu on a socket.

    Only processes of the user who runs it are served.
    """

    def __init__(self, path: Path, machine: Machine, devices: Devices, course: Course | None = None) -> None:
        """Listen at ``path``; ``course`` is told of all that happens. Raises OSError."""
        self.machine = machine
        self.devices = devices
        self.course = course or Course()
        self._watch = machine.watch
        self.files = Files(self.course)
        self.mappings = Mappings(self.course)
        self.course.begin(self.files)
        self._users: dict[int, User] = {}
        self._programs: dict[bytes, Program] = {}
        self._connections: set[socket.socket] = set()
        self._lock = RLock()
        self._ended = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._acceptor = Thread(target=self._accept, name="viommu accept")
        self._threads = [Thread(target=self._reap, name="viommu reap")]
        for thread in (self._acceptor, *self._threads):
            thread.start()

    def close(self) -> None:
        """End: what is open is released, and programs get ENODEV from now on."""
        self._ended = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self.files.wake()
        self._acceptor.join()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            programs = tuple(self._programs.values())
        for program in programs:  # a call of one program may wait for the memory of another
            program.close()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        with self.course.turn:
            self.files.close()
        self.course.end()

    def settle(self, caller: object = None, *, unmapped: bool = True) -> None:
        """Do what was done without a call: stores to registers, closed descriptors, and mappings that are gone.

        ``caller`` calls, or is gone. ``unmapped`` False: whether somebody maps something makes no difference now.
        """
        with self.course.turn:
            self._settle(caller, unmapped=unmapped)

    def _settle(self, caller: object, *, unmapped: bool) -> None:
        """The same for who has the turn."""
        self._watch.settle()
        self.files.reap()
        self.mappings.called(caller)
        if unmapped:
            self.mappings.reap(self._pids)

    # --- who connects

    def _accept(self) -> None:
        while not self._ended:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if not self._ended:  # descriptors have run out: they come back as others end
                    time.sleep(PAUSE)
                continue
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        """Serve a connection by a thread of its own; close it where there can be none."""
        thread = Thread(target=self._serve, args=(connection,), name="viommu connection")
        with self._lock:
            self._connections.add(connection)
            self._threads = [one for one in self._threads if one.ident is None or one.is_alive()] + [thread]
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._connections.discard(connection)
                self._threads.remove(thread)
            connection.close()

    def _reap(self) -> None:
        while not self._ended:
            self.files.wait()
            if not self._ended:
                self.settle()
                with self._lock:
                    self._forget_ended()  # of a process that ends, the helper may be the last to go

    def _serve(self, connection: socket.socket) -> None:
        kept = False
        try:
            kept = self._greeted(connection)
        except Gone:
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            if not kept:
                connection.close()
                self.settle(connection)

    def _greeted(self, connection: socket.socket) -> bool:
        """Serve one connection to its end; whether it is kept, because it is a helper's."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        pid, user, _ = CREDENTIALS.unpack(raw)
        if user != os.getuid():
            log.warning("a stranger was refused", pid=pid, user=user)
            return False
        for timeout in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, timeout, TIMEVAL.pack(SECONDS, 0))
        hello = Packet.receive_plain(connection)
        if hello.op != Op.HELLO or len(hello.payload) != TOKEN_BYTES:
            return False
        program = self._joined(hello.payload, pid, user)
        try:
            if hello.words[0] == HELPER:
                Packet(Op.ANSWER).send(connection)
                program.help_by(Link(connection, SECONDS))
                self.files.notice(connection.fileno())
                return True
            program.is_reachable |= hello.words[0] == REACHABLE
            link = Link(connection, SECONDS)
            while True:
                self._answer(connection, link, program, _question(connection))
        finally:
            self._leave(program)

    def _joined(self, token: bytes, pid: int, user: int) -> Program:
        with self._lock:
            self._forget_ended()
            if token not in self._programs:
                whose = self._users.setdefault(user, User())
                memory = self.course.memory_of_programs(self.machine.memory)
                self._programs[token] = Program(pid, memory, self.files, whose)
            program = self._programs[token]
            program.connections += 1
            return program

    def _leave(self, program: Program) -> None:
        with self._lock:
            program.connections -= 1
            self._forget_ended()

    def _forget_ended(self) -> None:
        """Forget programs that nothing connects any more. The lock is held."""
        for token, program in tuple(self._programs.items()):
            if not program.connections and not program.alive:
                self._programs.pop(token).close()

    def _pids(self) -> set[int]:
        with self._lock:
            self._forget_ended()  # the number of one that has ended may be another's by now
            return {program.pid for program in self._programs.values()}

    # --- what it asks

    def _answer(self, connection: socket.socket, link: Link, program: Program, question: Packet) -> None:
        program.calling(link)
        try:
            if self.course.takes_no_note:
                answer = self._in_turn(connection, program, question)
            else:
                with self.course.turn:
                    answer = self._in_turn(connection, program, question)
        except Gone:
            raise
        except Exception:
            log.exception("a call failed within the service", op=question.op, pid=program.pid)
            answer = Packet.of(Op.ANSWER, result=-errno.EIO)
        finally:
            program.answered()
        try:
            answer.send(connection)
        finally:
            if answer.fd is not None:
                os.close(answer.fd)

    def _in_turn(self, connection: socket.socket, program: Program, question: Packet) -> Packet:
        """Answer, after what was done before without a call; registers that are mapped show what it led to."""
        self._settle(connection, unmapped=_destroys(question))
        answer = self._answered(connection, program, question)
        self._watch.settle()
        return answer

    def _answered(self, connection: socket.socket, program: Program, question: Packet) -> Packet:
        first = question.words[0]
        if question.op in calls.CALLS:
            return self._asked_of(self.files.find(first), connection, program, question)
        if question.op == Op.OPEN:
            return self.course.answered(program, question, lambda _: self._open(node=first))
        if question.op == Op.PINNED:
            return self._pinned(pid=first)
        if question.op == Op.NOTE:
            return result(take_note(program, *question.words[:3]))
        served = self.files.find(first)
        if question.op == Op.OWNS:
            return _owned(served)
        return self._asked_of(served, connection, program, question)

    def _asked_of(self, served: Served | None, connection: socket.socket, program: Program, question: Packet) -> Packet:
        if served is None:
            return result(NOT_OURS)
        if self.course.takes_no_note:
            return calls.answer(served, program, question, self.mappings, connection)

        def act(caller: Caller) -> Packet:
            return calls.answer(served, caller, question, self.mappings, connection)

        return self.course.answered(program, question, act)

    def _open(self, node: int) -> Packet:
        file = opened(self.machine, self.devices, node)
        if isinstance(file, int):
            return result(file)
        try:
            served, theirs = self.files.add(file, node)
        except KernelError:
            file.release()
            return result(-errno.ENFILE)
        self.files.watch(served)
        return Packet.of(Op.ANSWER, fd=theirs)

    def _pinned(self, pid: int) -> Packet:
        with self._lock:
            self._forget_ended()
            accounts = [program.account for program in self._programs.values() if program.pid == pid]
        return Packet.of(Op.ANSWER, sum(a.locked for a in accounts), sum(a.pinned for a in accounts))


def _question(connection: socket.socket) -> Packet:
    """Wait for a question, however long a program does not ask. Raises Gone."""
    while True:
        try:
            return Packet.receive_plain(connection)
        except Silent:
            continue


def _owned(served: Served | None) -> Packet:
    """Say whether it is one of ours, and its node, counted from 1; 0: an ioctl made it."""
    node = None if served is None else served.node
    return Packet.of(Op.ANSWER, 0 if node is None else node + 1, result=int(served is not None))


def _destroys(question: Packet) -> bool:
    """Whether a question may be refused because of what is mapped."""
    return question.words[1] == DESTROY and question.op == Op.IOCTL
