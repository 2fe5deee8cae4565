"""replace_file: the old file or the new one, never anything else."""

from __future__ import annotations

import errno
import os

import pytest

from cnnfilter.runtime.atomic_files import replace_file


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_the_error_of_a_full_disk_names_the_file():
    with pytest.raises(OSError, match="/dev/full") as caught, replace_file("/dev/full", force=True) as file:
        file.write(b"data")
    assert caught.value.filename == "/dev/full"


@pytest.mark.parametrize("failing", ["open", "replace"])
def test_an_error_names_the_file_and_not_the_hidden_one(tmp_path, monkeypatch, failing):
    real = getattr(os, failing)

    def fail(path, *rest, **more):
        if str(path).endswith(".tmp"):
            raise OSError(errno.EROFS, "read-only file system", path)
        return real(path, *rest, **more)

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="read-only") as caught, replace_file(tmp_path / "new", force=True) as file:
        file.write(b"data")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "new"), None)


def test_a_new_file_gets_what_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        with replace_file(tmp_path / "new") as file:
            file.write(b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == b"data"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["new"]


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    path.chmod(0o604)
    with replace_file(path, force=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o604


def test_an_existing_file_is_refused_before_and_after_the_work(tmp_path):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError), replace_file(path):
        pytest.fail("the block must not run")
    late = tmp_path / "late"
    with pytest.raises(FileExistsError), replace_file(late) as file:  # noqa: PT012 - it is raised at the end
        file.write(b"ours")
        late.write_bytes(b"theirs")
    assert late.read_bytes() == b"theirs"
    assert sorted(os.listdir(tmp_path)) == ["late", "old"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_after_an_exception_the_old_file_is_whole_and_nothing_is_left(tmp_path, failure):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    with pytest.raises(failure), replace_file(path, force=True) as file:  # noqa: PT012 - half of it was written
        file.write(b"half")
        raise failure
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["old"]


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with replace_file(link, force=True) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_name_of_255_bytes_works(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    with replace_file(path) as file:
        file.write(b"data")
    assert path.read_bytes() == b"data"


def test_a_device_is_written_in_place():
    with replace_file("/dev/null", force=True) as file:
        file.write(b"data")
    assert not os.path.isfile("/dev/null")


def test_the_temporary_file_is_hidden(tmp_path):
    with replace_file(tmp_path / "new") as file:
        (name,) = os.listdir(tmp_path)
        assert name.startswith(".new.")
        file.write(b"")


@pytest.mark.parametrize("can_sync", [True, False])
def test_on_macos_the_disk_itself_is_flushed(tmp_path, monkeypatch, can_sync):
    fcntl = pytest.importorskip("fcntl")
    calls = []

    def full_sync(descriptor, command):
        calls.append(command)
        if not can_sync:  # a file system of another kind
            raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full_sync)
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    with replace_file(tmp_path / "new") as file:
        file.write(b"data")
    assert calls == ([51] if can_sync else [51, "fsync"])
