"""`llmux replay`: the state at any moment, and what changed between two."""

from pathlib import Path

import pytest

from llmux.actors.facts import EMPTY, plain
from llmux.actors.facts.house import FOLDS
from llmux.cli.states import value_text
from tests.cli.typed import golden_log, json_of, refused, said

NOW = 1_790_000_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return golden_log(tmp_path)


def test_into_a_pipe_the_state_is_json(data: Path):
    state = json_of(data, "replay")
    assert state == json_of(data, "replay", "--json")
    assert set(state) == {"position", *FOLDS}
    assert json_of(data, "replay", "--at", "0") == plain(EMPTY)


def test_one_actor_alone(data: Path):
    whole = json_of(data, "replay", "--at", "100")
    assert json_of(data, "replay", "--at", "100", "--actor", "quotas") == {"position": 100, "quotas": whole["quotas"]}


def test_an_actor_that_there_is_not_is_a_sentence_with_the_known_ones(data: Path):
    assert "there are no facts of 'nobody', but of gateway, log, keys" in refused(data, "replay", "--actor", "nobody")


def test_a_table_names_every_actor_and_tells_times_from_that_moment(data: Path):
    text = said(data, "replay", "--table")
    for name in FOLDS:
        assert f"\n{name}\n" in text
    assert text.startswith("The state at position 142, 2026-09-21T14:13:20.769Z")
    for words in ("user ada", "project engine", "until 2026-09-21 15:13:20Z (in 59 min)", "completed", "total"):
        assert words in " ".join(text.split()), words
    assert "\nkeys\n  none\n" in said(data, "replay", "--table", "--at", "0")
    assert said(data, "replay", "--table", "--at", "0").startswith("The state at the empty log")


def test_an_open_request_is_in_the_table(data: Path):
    text = said(data, "replay", "--table", "--at", "2", "--actor", "requests")
    assert "principal local, endpoint /api/smart" in text
    assert "keys" not in text


def test_a_difference_says_what_changed_from_the_earlier_to_the_later_moment(data: Path):
    text = said(data, "replay", "--at", "62", "--diff", "30", "--table")
    assert text.startswith("From position 30, 2026-09-21T14:13:20.024Z to position 62, 2026-09-21T14:13:20.366Z")
    assert "~ cancelled: 0 -> 1" in text
    assert "+ gamma/default: provider gamma, account default, attempts 2" in text
    assert any(line.startswith("- open  ") for line in text.splitlines())
    assert text == said(data, "replay", "--at", "30", "--diff", "62", "--table")


def test_a_difference_as_json_leads_from_one_state_to_the_other(data: Path):
    found = json_of(data, "replay", "--at", "30", "--diff", "62")
    assert (found["from"]["position"], found["to"]["position"]) == (30, 62)
    before, after = (json_of(data, "replay", "--at", at) for at in ("30", "62"))
    for actor, changes in found["changes"].items():
        for change in changes:
            inner = before[actor]
            for name in change["path"][:-1]:
                inner = inner[name]
            if change["kind"] == "removed":
                del inner[change["path"][-1]]
            else:
                inner[change["path"][-1]] = change["new"]
    assert {**before, "position": 62} == after


def test_a_difference_to_a_time_and_of_one_actor(data: Path):
    found = json_of(data, "replay", "--diff", "2026-09-21T14:13:20.024Z", "--actor", "requests")
    assert list(found["changes"]) == ["requests"]
    assert found["from"]["position"] == json_of(data, "replay", "--at", "2026-09-21T14:13:20.024Z")["position"]


def test_between_a_moment_and_itself_nothing_changed(data: Path):
    assert "Nothing changed." in said(data, "replay", "--at", "9", "--diff", "9", "--table")
    assert json_of(data, "replay", "--at", "9", "--diff", "9")["changes"] == {}


def test_archived_moments_are_shown_too_and_the_end_of_an_archive_without_its_file(data: Path):
    commands = (("--at", "62"), ("--at", "30", "--diff", "62"), ("--at", "62", "--diff", "30", "--table"))
    before = [said(data, "replay", *words) for words in commands]
    said(data, "archive", "--before", "63")
    assert [said(data, "replay", *words) for words in commands] == before
    for file in (data / "archives").iterdir():
        file.unlink()
    assert said(data, "replay", *commands[0]) == before[0]
    assert said(data, "replay", *commands[0], "--table").startswith("The state at position 62\n")
    assert "which is not there" in refused(data, "replay", "--at", "30")


@pytest.mark.parametrize(("option", "value"), [("--at", "143"), ("--diff", "143"), ("--at", "noon"), ("--diff", "")])
def test_a_moment_that_there_is_not_is_a_sentence(data: Path, option: str, value: str):
    sentence = refused(data, "replay", option, value)
    assert option in sentence
    assert ("the log ends at position 142" if value == "143" else "write a position such as 120") in sentence


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("until", NOW + 90_000, "2026-09-21 14:14:50Z (in 1 min)"),
        ("last_at", NOW - 2 * 86_400_000, "2026-09-19 14:13:20Z (2 d ago)"),
        ("resets_at", 10**17, "100,000,000,000,000,000 ms"),
        ("resets_at", None, "-"),
        ("tokens", 1234567, "1,234,567"),
        ("day", 20_717, "2026-09-21"),
        ("pinned", True, "yes"),
        ("secret_sha256", "0123456789abcdef", "0123456789ab…"),
        ("models", ["a", "b"], "a, b"),
        ("rest", {"kind": "overloaded", "until": NOW}, "kind overloaded, until 2026-09-21 14:13:20Z (0 ms ago)"),
    ],
)
def test_values_are_told_as_people_read_them(field: str, value: object, text: str):
    assert value_text(field, value, NOW) == text


def test_what_somebody_else_wrote_cannot_steer_the_terminal():
    for value in ("a\x1b[31mb", {"a\x1b[31mb": "c\x1bd"}, ["\x1b"]):
        assert "\x1b" not in value_text("label", value, NOW)
