"""docs/clients.md names every client that is tested, at the version that is tested."""

import json
import re
from pathlib import Path

from tests.clients.install import HERE

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text("utf-8")


def test_the_page_names_the_versions_that_are_tested() -> None:
    lock = (HERE / "requirements.lock").read_text()
    node = json.loads((HERE / "node" / "package.json").read_text())["dependencies"]
    versions = {name: re.search(rf"^{name}==(\S+)", lock, re.M) for name in ("openai", "anthropic", "ollama", "llm")}
    versions["langchain-openai"] = re.search(r"^langchain-openai==(\S+)", lock, re.M)
    told = set(re.findall(r"\(([0-9.]+)[,)]|with `ai` ([0-9.]+)", PAGE))
    named = {first or second for first, second in told}
    for found in versions.values():
        assert found is not None
        assert any(found[1].startswith(each) for each in named), found[0]
    for name, version in node.items():
        assert any(version.startswith(each) for each in named), name
