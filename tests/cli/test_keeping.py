"""`llmux verify`, `witness`, `rekey`, `backup` and `restore`, as people type them."""

import json
import re
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result

from llmux.cli import main
from tests.cli.typed import golden_log, said, typed
from tests.eventstore.logs import foreign, tampered
from tests.gateway import gateway_process

KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d"
SCRIPTED = '[providers.claude]\nkind = "scripted"\ncommand = ""\ndefault_model = "echo"\n' + "".join(
    f"[providers.{name}]\nenabled = false\n" for name in ("gemini", "codex", "ollama")
)


def with_key(data: Path, *words: str, key: str = KEY) -> Result:
    environ = {"HOME": str(data.parent), "LLMUX_DATA_DIR": str(data), "LLMUX_CONFIG": None, "LLMUX_CHAIN_KEY": key}
    return CliRunner().invoke(main, words, env=environ, catch_exceptions=False)


def refused(result: Result, sentence: str, status: int = 1) -> None:
    assert result.exit_code == status, result.output
    assert sentence in result.stderr
    assert KEY not in result.output


def test_a_log_is_backed_up_changed_and_restored(tmp_path: Path) -> None:
    data, copy = golden_log(tmp_path), tmp_path / "copy.db"
    position = int(re.search(r"position (\d+)", said(data, "backup", str(copy))).group(1))
    assert "head at position" in said(data, "verify")
    tampered(data, "UPDATE events SET principal = 'mallory' WHERE position = 3")
    refused(typed(data, "verify"), "The chain is broken. Position 3: the content does not match its hash.")
    refused(typed(data, "restore", str(copy)), "Add --replace", 2)
    printed = said(data, "restore", str(copy), "--replace")
    assert f"up to position {position}; the next event says so" in printed
    assert "is kept as" in printed
    assert f"head at position {position + 1}," in said(data, "verify")
    assert f"witnessed at position {position + 1}," in said(data, "witness")
    refused(typed(data, "backup", str(copy)), "--force", 2)


def test_a_running_gateway_is_backed_up_and_not_restored(tmp_path: Path) -> None:
    with gateway_process(tmp_path / "home", toml=SCRIPTED) as gateway:
        assert gateway.call("POST", "/api/smart", {"prompt": "hi"}).status == 200
        made = gateway.llmux("backup", str(tmp_path / "copy.db"))
        assert (made.returncode, made.stderr) == (0, "")
        assert "The log up to position 5 is in" in made.stdout
        assert "its chain holds" in made.stdout
        tried = gateway.llmux("restore", str(tmp_path / "copy.db"), "--replace")
        assert tried.returncode == 1
        assert "in use by process" in tried.stderr
        assert gateway.call("POST", "/api/smart", {"prompt": "ho"}).status == 200


def test_a_log_gets_a_key_and_is_then_verified_with_it_only(tmp_path: Path) -> None:
    data = golden_log(tmp_path)
    refused(typed(data, "rekey"), "Set LLMUX_CHAIN_KEY", 2)
    refused(with_key(data, "verify"), "Not verified. Every event is whole, but the last one")
    first = with_key(data, "rekey")
    assert (first.exit_code, first.stderr) == (0, "")
    assert re.search(
        r"From position \d+ on the log is under the key hmac:[0-9a-f]{16}; before it was without a key\.", first.stdout
    )
    assert "already" in with_key(data, "rekey").stdout
    verified = with_key(data, "verify")
    assert verified.exit_code == 0
    assert "It is under the key hmac:" in verified.stdout
    refused(typed(data, "verify"), "are hashed with the key hmac:")
    unsure = typed(data, "backup", str(tmp_path / "copy.db"))
    assert unsure.exit_code == 0
    assert "could not be checked wholly" in unsure.stderr
    lost = with_key(data, "rekey", "--lost", key=KEY[::-1])
    assert lost.exit_code == 0
    assert "no longer be verified" in lost.stderr


def test_a_missing_end_is_told_and_can_be_accepted(tmp_path: Path) -> None:
    data = golden_log(tmp_path)
    head = json.loads(said(data, "replay"))["position"]
    assert "Nothing outside the log witnesses its end yet" in said(data, "witness")
    tampered(data, f"DELETE FROM events WHERE position > {head - 2}")
    for command in ("verify", "witness"):
        refused(typed(data, command), f"its last position was {head} once")
    refused(typed(data, "witness", "--accept"), "say what happened", 2)
    printed = said(data, "witness", "--accept", "--reason", "the disk died")
    assert f"goes on after position {head - 2}" in printed
    assert f"head at position {head - 1}," in said(data, "verify")
    assert "the disk died" in said(data, "events", "--type", "LossAccepted")
    assert "nothing to accept" in said(data, "witness", "--accept", "--reason", "again")


def test_a_log_that_was_cut_behind_sqlites_back_is_told_by_its_witness(tmp_path: Path) -> None:
    data = golden_log(tmp_path)
    copy = tmp_path / "copy.db"
    said(data, "backup", str(copy))
    said(data, "restore", str(copy), "--replace")  # which witnesses the head
    head = json.loads((data / "witness.json").read_text())["position"]
    tampered(data, f"DELETE FROM events WHERE position > {head - 1}", f"UPDATE sqlite_sequence SET seq = {head - 1}")
    refused(typed(data, "verify"), f"The end of the log is not what it was. The log ends at position {head - 1}")
    (data / "witness.json").write_text("{}")
    refused(typed(data, "verify"), "is no witness of a log", 2)


def test_a_witness_that_lies_in_an_archive_is_compared_there_and_never_said_to_be_the_same_unseen(
    tmp_path: Path,
) -> None:
    data = golden_log(tmp_path)
    with closing(foreign(data)) as log:
        (hash,) = log.execute("SELECT hash FROM events WHERE position = 9").fetchone()
    said(data, "archive", "--before", "21")
    (archive,) = (data / "archives").iterdir()
    witness = data / "witness.json"
    for words in (("verify",), ("verify", "--archives"), ("witness",)):
        witness.write_text(json.dumps({"position": 9, "hash": hash.hex(), "at": 1}))
        assert "and is the same." in said(data, *words)
        witness.write_text(json.dumps({"position": 9, "hash": "ab" * 32, "at": 1}))
        refused(typed(data, *words), "Position 9 has another hash than the one that was witnessed")
    archive.rename(tmp_path / archive.name)
    for words in (("verify",), ("witness",)):
        printed = said(data, *words)
        assert "and could not be compared: this position is in an archive that is not there" in printed
        assert "the same" not in printed
    assert "No loss was found" in said(data, "witness", "--accept", "--reason", "none")


def test_what_would_destroy_a_log_is_refused_in_a_sentence(tmp_path: Path) -> None:
    data, copy, kept = golden_log(tmp_path), tmp_path / "copy.db", tmp_path / "kept"
    head = json.loads(said(data, "replay"))["position"]
    own = data / "events.db"
    refused(typed(data, "backup", str(own), "--force"), "is a place of the gateway itself", 2)
    refused(typed(data, "backup", "/dev/null", "--force"), "/dev/null is a device or something like it", 2)
    copy.write_bytes(b"")
    refused(typed(data, "restore", str(copy), "--replace"), "copy.db is no backup of a log", 2)
    assert f"head at position {head}," in said(data, "verify")
    copy.unlink()
    said(data, "archive", "--before", "21")
    (archive,) = (data / "archives").iterdir()
    assert "One archive file was copied" in said(data, "backup", str(copy), "--archives", str(kept))
    archive.unlink()
    assert "0 archive files were copied" in said(data, "backup", str(copy), "--archives", str(kept), "--force")
    (kept / archive.name).unlink()
    tried = typed(data, "backup", str(tmp_path / "other.db"), "--archives", str(kept))
    refused(tried, f"{archive} with the positions 1 to 20 is not there")
    assert not list(tmp_path.glob("other*"))
