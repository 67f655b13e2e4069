"""Where a backup may be written: nowhere in the data directory, and over nothing that is no plain file."""

import os
from collections.abc import Iterator
from pathlib import Path

from llmux.config import Settings
from llmux.failures import ConfigurationWrong


def checked_target(settings: Settings, target: Path, *, force: bool) -> Path:
    """The file that is to be written, without symbolic links. Raises ConfigurationWrong where none may be."""
    try:
        real = Path(os.path.realpath(target))
        if target.is_dir() or not target.parent.is_dir() or not real.parent.is_dir():
            raise ConfigurationWrong(f"{target} cannot be written: name a file in a directory that exists.")
        if real.exists() and not real.is_file():
            raise ConfigurationWrong(f"{target} is a device or something like it: name a file.")
        if _is_inside(real, settings.data_dir) or _is_one_of(real, settings):
            raise ConfigurationWrong(
                f"{target} is a place of the gateway itself ({settings.data_dir} and its witness): a backup there would "
                "destroy what it is to save. Name a file elsewhere."
            )
        if real.exists() and not force:
            raise ConfigurationWrong(f"{target} exists already. Name another file, or add --force to replace it.")
    except OSError as error:
        raise ConfigurationWrong(f"{target} cannot be written: {error.strerror}.") from None
    return real


def checked_folder(settings: Settings, folder: Path) -> Path:
    """The folder that archives are copied to, without symbolic links. Raises ConfigurationWrong where none may be."""
    real = Path(os.path.realpath(folder))
    try:
        if _is_inside(real, settings.data_dir):
            raise ConfigurationWrong(f"{folder} is in the data directory: name a folder elsewhere for the archives.")
        if real.exists() and not real.is_dir():
            raise ConfigurationWrong(f"{folder} is no folder.")
    except OSError as error:
        raise ConfigurationWrong(f"{folder} cannot be used: {error.strerror}.") from None
    return real


def _is_inside(path: Path, directory: Path) -> bool:
    """Also where the directory has another name for the same place."""
    return directory.exists() and any(each.exists() and each.samefile(directory) for each in (path, *path.parents))


def _is_one_of(path: Path, settings: Settings) -> bool:
    """Whether it is a file of the gateway under a second name, or its witness elsewhere."""
    if not path.exists():
        return path == Path(os.path.realpath(settings.witness))
    own = path.stat()
    return any(os.path.samestat(own, each) for each in _files(settings))


def _files(settings: Settings) -> Iterator[os.stat_result]:
    for folder, _, names in os.walk(settings.data_dir):
        for path in (Path(folder, name) for name in names):
            if path.exists():
                yield path.stat()
    if settings.witness.exists():
        yield settings.witness.stat()
