"""The file that says where a server is."""

import json
import os
import socket
from pathlib import Path

import pytest

from mockserver.errors import MockServerError
from mockserver.server.ready_file import remove_former, remove_own, remove_stale, write
from tests.helpers.command import run, serving


def test_it_appears_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "ready.json", {"port": 1})
    assert json.loads((tmp_path / "ready.json").read_text()) == {"port": 1, "pid": os.getpid()}
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "ready.json"
    folder.mkdir()
    with pytest.raises(MockServerError, match="cannot write the ready file"):
        write(folder, {})
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_regular_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ready.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(MockServerError, match="is not a regular file"):
        remove_stale(path)
    assert path.is_symlink() or path.exists()


@pytest.mark.slow
def test_a_device_is_refused_before_the_server_listens() -> None:
    ended = run("serve", "--port", "0", "--ready-file", "/dev/null")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert (
        ended.stderr
        == "mockserver: the ready file /dev/null exists and is not a regular file; choose another\n"
    )
    assert not Path("/dev/null").is_file()


def test_at_its_end_a_server_removes_only_its_own(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    for other in ('{"pid": 1}', "[]", "{", "\\ud800"):
        path.write_text(other)
        remove_own(path)
        assert path.exists()
    write(path, {})
    remove_own(path)
    assert not path.exists()
    remove_own(path)


@pytest.mark.slow
def test_a_stale_one_is_gone_before_the_server_listens(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text('{"url": "http://127.0.0.1:1", "pid": 1}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run("serve", "--port", str(taken.getsockname()[1]), "--ready-file", str(path))
    assert ended.returncode == 2
    assert not path.exists()


@pytest.mark.slow
def test_of_two_servers_the_first_to_end_leaves_the_file_of_the_other(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    with (
        serving("--ready-file", str(path)) as (first, _),
        serving("--ready-file", str(path)) as (_, url),
    ):
        first.terminate()
        assert first.wait(20) == 0
        assert json.loads(path.read_text())["url"] == url


@pytest.mark.slow
def test_a_server_that_cannot_start_leaves_the_file_of_the_one_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    with serving("--ready-file", str(path)) as (process, url):
        port = url.rpartition(":")[2]
        ended = run("serve", "--port", port, "--ready-file", str(path))
        assert ended.returncode == 2
        assert json.loads(path.read_text()) == {"url": url, "port": int(port), "pid": process.pid}


@pytest.mark.parametrize(
    "facts", ["[]", "{}", '{"pid": "x", "url": 1}', '{"pid": -1e99, "url": ""}']
)
def test_a_file_that_says_nothing_of_a_server_is_stale(tmp_path: Path, facts: str) -> None:
    path = tmp_path / "ready.json"
    path.write_text(facts)
    remove_stale(path)
    assert not path.exists()


def test_the_file_of_another_server_goes_once_the_new_one_listens(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        path.write_text(json.dumps({"url": url, "pid": os.getppid()}))
        remove_stale(path)
        assert path.exists()
        remove_former(path)
        assert not path.exists()
        remove_former(path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_it_goes_though_the_archive_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    with serving("--ready-file", str(path), "--har", "/dev/full") as (process, _):
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors.count("\n")) == (2, 1)
    assert not path.exists()
