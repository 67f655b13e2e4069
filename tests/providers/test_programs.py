"""What is known of a program before it runs for long: where it is, what it is given, what it says."""

import os
import sys

import pytest

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure
from llmux.providers.programs import find, minimal_environment, output_of

ENV = {"PATH": os.environ["PATH"]}


def test_programs_are_found_by_name_or_by_path(tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    assert find("tool", str(tmp_path)) is None, "it is not executable"
    tool.chmod(0o755)
    assert find("tool", str(tmp_path)) == tool == find(str(tool), "")
    assert find("nothing", str(tmp_path)) is None


async def test_the_environment_is_exactly_what_was_given(tmp_path):
    given = minimal_environment({"HOME": "/h", "PATH": "/p", "API_KEY": "secret", "LANG": "de"}, {"EXTRA": "1"})
    assert given == {"HOME": "/h", "PATH": "/p", "LANG": "C.UTF-8", "TERM": "dumb", "EXTRA": "1"}
    status, output = await output_of(["/usr/bin/env"], env=given, cwd=tmp_path, limits=Limits())
    assert status == 0
    assert sorted(output.decode().splitlines()) == sorted(f"{name}={value}" for name, value in given.items())


async def test_output_that_is_too_much_is_garbled(tmp_path):
    limits = Limits(line_bytes_max=10_000, stop_ms_max=200)
    with pytest.raises(ProviderFailure) as caught:
        await output_of(
            [sys.executable, "-c", "while True: print('x' * 99)"],
            env={"PATH": os.environ["PATH"]},
            cwd=tmp_path,
            limits=limits,
        )
    assert caught.value.kind is Kind.GARBLED
