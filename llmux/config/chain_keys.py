"""The keys of the log's chain of hashes: from the environment or from a file, never from llmux.toml, never shown."""

import os
import stat
from pathlib import Path

from llmux.failures import ConfigurationWrong

LENGTH_MIN = 32
DISTINCT_MIN = 10
FILE_BYTES_MAX = 64 * 1024
ADVICE = "write the output of: openssl rand -hex 32"


def chain_keys(text: str, file: str) -> tuple[str, ...]:
    """The keys in the order in which they came into use, the present one last: those of `text`, or those in `file`.

    Keys are separated by blanks or new lines. Raises ConfigurationWrong, which never repeats a key.
    """
    if text and file:
        raise ConfigurationWrong("LLMUX_CHAIN_KEY and LLMUX_CHAIN_KEY_FILE are both set; set only one of them.")
    where = f"The file of the chain key, {file}," if file else "LLMUX_CHAIN_KEY"
    keys = tuple((_content(file) if file else text).split())
    if file and not keys:
        raise ConfigurationWrong(f"{where} holds no key; {ADVICE}")
    for key in keys:
        if len(key) < LENGTH_MIN or len(set(key)) < DISTINCT_MIN:
            raise ConfigurationWrong(
                f"{where} holds a key that is too weak; it needs at least {LENGTH_MIN} characters without blanks, "
                f"of at least {DISTINCT_MIN} different kinds: {ADVICE}"
            )
    if len(set(keys)) < len(keys):
        raise ConfigurationWrong(f"{where} holds the same key twice; each key of a log is used once.")
    return keys


def _content(file: str) -> str:
    path = Path(file).expanduser()
    try:
        with open(path, "rb", opener=_without_waiting) as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(FILE_BYTES_MAX + 1) if stat.S_ISREG(mode) else b""
        text = content.decode()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationWrong(f"The file of the chain key, {file}, cannot be read: {why}.") from None
    if not stat.S_ISREG(mode) or len(content) > FILE_BYTES_MAX:
        raise ConfigurationWrong(f"The file of the chain key, {file}, is no small text file.")
    if mode & 0o027:
        raise ConfigurationWrong(
            f"The file of the chain key, {file}, can be read by others, or changed by its group. Type: chmod 600 {file}"
        )
    return text


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer would hold up the start for ever
