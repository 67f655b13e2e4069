"""Whether a key that somebody chose is a secret: not one that a document shows, and not one that is found by trying."""

import re

from llmux.failures import ConfigurationWrong

LENGTH_MIN = 16
DIFFERENT_MIN = 6
"""characters; of 16 random hex digits fewer are different once in thirty thousand times, of 32 never"""

_SAMPLES = """
a abc abcdef admin administrator adminkey an and any api apikey auth bar baz bearer change changeme configured
credential custom default demo dev development dummy enter example fake fixme foo foobar for from generate
generated goes here i in insert is key keys letmein llm llmux local long master me my mykey new not now of on
one or own passphrase passwd password pick placeholder please production put qwerty random replace replaceme
root s sample secret secretkey secrets secure server set sk some something string strong super supersecret test
testing that the this to todo token top value very weak welcome with xxx yes you your yourkey
"""
_WORDS = frozenset(_SAMPLES.split())
"""what samples are made of; random text has other parts"""
_PLACEHOLDER = re.compile(r"<.*>|\$\{|\{\{|\u2026|\.\.\.|(.)\1{7}")
_RUNS = "abcdefghijklmnopqrstuvwxyz0123456789012345678909876543210"


def check_credential(name: str, key: str) -> None:
    """Raises ConfigurationWrong, which names the setting `name` and never repeats the key."""
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise ConfigurationWrong(
            f"{name} holds something that no client can send in a header, such as a blank at its end; write printable ASCII "
            "characters without blanks around them."
        )
    if len(key) < LENGTH_MIN or _is_sample(key):
        raise ConfigurationWrong(
            f"{name} is a sample or too short to be a secret; write at least {LENGTH_MIN} characters, such as the output of: "
            "openssl rand -hex 32"
        )
    if len(set(key)) < DIFFERENT_MIN or _is_repeated(key) or key.lower() in _RUNS:
        raise ConfigurationWrong(
            f"{name} is too easy to guess; write something random, such as the output of: openssl rand -hex 32"
        )


def _is_sample(key: str) -> bool:
    """Whether the key is one of a document's: all words of it are such as samples are made of, or something is to be filled in."""
    words = re.findall(r"[a-z]+|[0-9]+", key.lower())
    counted = all(word in _WORDS or (word.isdigit() and (len(word) < 4 or word in _RUNS)) for word in words)
    return counted or _PLACEHOLDER.search(key) is not None


def _is_repeated(key: str) -> bool:
    return any(key == (key[:length] * len(key))[: len(key)] for length in range(1, len(key) // 2 + 1))
