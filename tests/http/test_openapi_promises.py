"""A stranger reads the OpenAPI document and asks a running gateway for all that it promises, and for what it forbids.

The stranger is schemathesis. No answer may be an undocumented status, another shape than the documented one, or a failure that
the gateway cannot name; what the schema forbids is refused, and no key means no entry.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway import gateway_process

ADMIN = "c5e8a1d3f7094b62e6d8103fa97b5c24"
KEY = "sk-7c20e9b5d14f8a3690c7e2b8f5d1a64b"
EXAMPLES = int(os.environ.get("LLMUX_TEST_EXAMPLES", "5"))
"""for each operation, beside those that cover its schema"""
CASES_MIN = 10_000 if EXAMPLES >= 50 else 1_000
"""at length, and in every run"""
SEED = os.environ.get("LLMUX_TEST_SEED", "1")
SETTINGS = """
[providers.claude]
kind = "scripted"
command = ""
default_model = "say=hello+you"
[providers.gemini]
enabled = false
[providers.codex]
enabled = false
[providers.ollama]
enabled = false
"""


@pytest.mark.timeout(600 + 20 * EXAMPLES)
def test_the_gateway_keeps_what_its_document_promises(tmp_path: Path) -> None:
    environ = {"API_KEY_REQUIRED": "true", "API_KEY": KEY, "ADMIN_KEY": ADMIN}
    with gateway_process(tmp_path / "home", toml=SETTINGS, **environ) as here:
        url = f"http://127.0.0.1:{here.port}"
        command = [Path(sys.executable).parent / "st", "run", f"{url}/openapi.json", "--url", url]
        command += ["-H", f"Authorization: Bearer {KEY}", "-H", f"X-Admin-Key: {ADMIN}"]
        # What a schema cannot say (a model that is not known, two fields that exclude each other) is refused, rightly.
        command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
        command += ["--max-examples", str(EXAMPLES), "--seed", SEED, "--no-color", "--continue-on-failure"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert here.process.poll() is None, "the gateway did not survive it"
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:]
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) >= CASES_MIN
