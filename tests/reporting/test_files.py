"""Files are written whole or not at all."""

import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mockserver.errors import MockServerError
from mockserver.reporting.files import write_file


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can have more than 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "archive.har"
    write_file(file, b"before")
    with full_disk(), pytest.raises(MockServerError, match="cannot write"):
        write_file(file, b"x" * 1000)
    assert file.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["archive.har"]


def test_permissions_links_and_folders_are_kept(tmp_path: Path) -> None:
    file, link = tmp_path / "new" / "archive.har", tmp_path / "link"
    write_file(file, b"one")
    file.chmod(0o640)
    link.symlink_to(file)
    write_file(link, b"two")
    assert file.read_bytes() == b"two"
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"through")
    reader.join()
    assert received == [b"through"]


def test_a_file_in_a_folder_that_takes_no_other_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mounted"
    file.write_bytes(b"before")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    write_file(file, b"after")
    assert file.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["mounted"]
