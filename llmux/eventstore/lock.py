"""Who owns a data directory: one process, by an exclusive lock that ends with it."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmux.eventstore.mounts import network_mount
from llmux.failures import ConfigurationWrong, DirectoryInUse

FILE = "lock"
TRIES = 20
WAIT_S = 0.005


@contextmanager
def own_directory(directory: Path) -> Iterator[Path]:
    """Makes the directory (mode 0700) if there is none, and owns it until the block is left or the process ends.

    Yields the directory. Raises DirectoryInUse, which names the owner's process id, or ConfigurationWrong when the directory
    cannot be made or written, or is on a network file system. Nothing is changed in either case.
    """
    _refuse_networks(directory)
    descriptor = _opened(directory)
    try:
        if not _locked(descriptor):
            raise DirectoryInUse(
                f"The data directory {directory} is in use by {_owner(descriptor)}. One gateway owns it at a time: "
                "stop the other one, or set LLMUX_DATA_DIR to another directory."
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield directory
        finally:
            with suppress(OSError):  # the file stays: whoever waits for the lock waits for this very file
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Takes the lock, if nobody owns it. Whoever asks `is_owned` after a crash holds it for a moment, which is waited for."""
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            threading.Event().wait(WAIT_S)
    return False


def is_owned(directory: Path) -> bool:
    """Whether a process owns the directory now. Makes and writes nothing, and keeps nobody from owning it afterwards.

    An owner's number stands in the file as long as it owns; only where there is one (a process that was killed leaves it
    behind) the lock itself is asked, shared and for a moment. Raises ConfigurationWrong when the file may not be read.
    """
    try:
        descriptor = os.open(directory / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unusable(directory, error) from None
    try:
        if not os.pread(descriptor, 1, 0):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _refuse_networks(directory: Path) -> None:
    mount = network_mount(directory)
    if mount is not None:
        raise ConfigurationWrong(
            f"The data directory {directory} is on a network file system ({mount.type} at {mount.point}). The event log needs "
            "memory that all who have it open share, and only a local disk gives that: set LLMUX_DATA_DIR to a directory on one."
        )


def _opened(directory: Path) -> int:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        return os.open(directory / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from None


def _unusable(directory: Path, error: OSError) -> ConfigurationWrong:
    return ConfigurationWrong(
        f"The data directory {directory} cannot be used: {error.strerror}. "
        "Set LLMUX_DATA_DIR to a directory that this user can write."
    )


def _owner(descriptor: int) -> str:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return f"process {text}" if text.isdigit() else "another process"
