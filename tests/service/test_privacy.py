"""Nobody but the user who runs a service gets into it, or at what it keeps."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from structlog.testing import capture_logs

from viommu import Machine
from viommu.errors import BadValue
from viommu.service.run import SHADOW_VARIABLE, SOCKET_VARIABLE, served, served_at
from viommu.service.wire import Gone, Op, Packet

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
REFUSED, ANSWERED, NOT_REACHED = 3, 4, 5


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with Machine("selftest") as machine, served(machine) as found:
        yield found


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(30)
        connection.connect(path)
        try:
            Packet.of(Op.HELLO, payload=bytes(16)).send(connection)
            Packet.of(Op.OWNS, 1).send(connection)
            return bool(connection.recv(64))
        except (OSError, Gone):
            return False


def test_the_folder_of_a_service_is_its_users_alone(environment: dict[str, str]) -> None:
    path = Path(environment[SOCKET_VARIABLE])
    assert mode_of(path.parent) == stat.S_IRWXU
    assert path.parent.stat().st_uid == os.geteuid()
    assert mode_of(Path(environment[SHADOW_VARIABLE])) == stat.S_IRWXU


def test_files_beside_a_socket_that_is_chosen_are_its_users_alone(tmp_path: Path) -> None:
    with Machine("selftest") as machine, served_at(tmp_path / "machine", machine) as found:
        assert mode_of(Path(found[SHADOW_VARIABLE])) == stat.S_IRWXU
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["machine", "machine.files"])
def test_what_is_there_already_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    """A folder that somebody has put there could lead elsewhere."""
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with (
        Machine("selftest") as machine,
        pytest.raises(BadValue, match="nothing is yet"),
        served_at(tmp_path / "machine", machine),
    ):
        pass
    assert (tmp_path / name).is_symlink()


def test_another_users_process_is_refused(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = environment[SOCKET_VARIABLE]
    assert is_answered(path)
    owner = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: owner)
    with capture_logs() as logs:
        assert not is_answered(path)
    (entry,) = logs
    assert (entry["event"], entry["pid"]) == ("a stranger was refused", os.getpid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_somebody_else_is_refused_even_where_the_folder_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)  # others may not come near that of a user
    with Machine("selftest") as machine, served(machine) as found:
        path = found[SOCKET_VARIABLE]
        for place, mode in ((Path(path).parent, 0o755), (Path(path), 0o666)):
            place.chmod(mode)
        child = os.fork()
        if not child:
            _ask_as_nobody(path)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == REFUSED


def _ask_as_nobody(path: str) -> NoReturn:
    status = NOT_REACHED
    try:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        status = ANSWERED if is_answered(path) else REFUSED
    finally:
        os._exit(status)
