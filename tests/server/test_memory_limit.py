"""`--max-memory` of a process that is allowed little."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mockserver.server import memory_limit
from mockserver.server.memory_limit import _limits_of_cgroup, default_max_memory
from tests.helpers.command import serving

MIB = 1024 * 1024


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": cgroup, **files}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "limits"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1000\n"}, [1000]),
        ("0::/\n", {"memory.max": "4096\n"}, [4096]),
        ("0::/of/the/host\n", {"memory.max": "4096\n"}, [4096]),
        (
            "4:cpu,memory:/docker/1\n0::/\n",
            {"memory/memory.limit_in_bytes": "2000\n", "cpu/docker/1/memory.max": "1\n"},
            [2000],
        ),
        ("3:cpu:/\n", {"cpu/memory.max": "1\n"}, []),
    ],
)
def test_both_versions_of_control_groups_are_read(
    tmp_path: Path, cgroup: str, files: dict[str, str], limits: list[int]
) -> None:
    root = system(tmp_path, cgroup, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert list(_limits_of_cgroup(root)) == limits


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert list(_limits_of_cgroup(tmp_path)) == []


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [(None, 1024), (64 * 1024, 1024), (1024, 512), (600, 300), (4, 16)],
)
def test_the_default_is_half_of_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, allowed: int | None, expected: int
) -> None:
    limit = resource.RLIM_INFINITY if allowed is None else allowed * MIB
    monkeypatch.setattr(memory_limit, "_limits_of_cgroup", lambda root: [])
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert default_max_memory() == expected * MIB


@pytest.mark.slow
def test_less_than_usual_is_told_in_the_banner() -> None:
    script = f"ulimit -v {1500 * 1024} && exec {sys.executable} -m mockserver serve --port 0"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.terminate()
    assert "data kept for clients: 750 MiB at most (--max-memory)\n" in lines


@pytest.mark.slow
def test_the_usual_is_not() -> None:
    with serving("--max-memory", "1G") as (process, _):
        process.terminate()
        output, _errors = process.communicate(timeout=20)
    assert "data kept" not in output
