"""Every trap of the Gemini CLI that was found by running it, and the test that stands on it."""

import ast
import os
from pathlib import Path

import pytest

from llmux.config import Account
from llmux.providers.gemini.home import Home
from llmux.providers.gemini.pool import ARGUMENTS
from llmux.providers.gemini.program import Login, find_login
from llmux.providers.gemini.settings import home_settings
from tests.providers.hearing import place_of

TESTS = Path(__file__).parents[1]

TRAPS = {
    # --- start, home and login
    "a parent process relaunches the CLI and ignores SIGTERM": "test_the_end_leaves_no_process_and_no_file",
    "a stale projects.json.lock stalls the start": "test_a_stale_lock_of_a_killed_worker_does_not_stall_the_next_one",
    "with a base URL and no selectedType the CLI dies": "test_the_kind_of_login_is_always_named",
    "the host's read-only ~/.gemini cannot be the home": "test_a_login_is_shared_by_a_link_or_copied_when_it_is_read_only",
    "an expired token is renewed in place": "test_an_expired_token_is_renewed_by_the_cli_and_stored_in_the_login_itself",
    "logged out, the next line is taken for a code": "test_a_login_dialog_is_a_logout_and_hears_nothing_more",
    "a refused renewal asks for a code on stdout": "test_a_login_that_cannot_be_renewed_is_a_logout_and_the_dialog_gets_nothing",
    "an account of Code Assist can be refused or ineligible": "test_an_account_that_code_assist_turns_away",
    # --- what goes up
    "by default 38 KB, a classifier call and telemetry go up": "test_one_prompt_is_one_model_call_without_tools_or_side_calls",
    "the context before the first turn names a path": "test_what_the_cli_puts_before_the_first_turn_names_no_place_of_this_machine",
    "its path differs from request to request": "test_successive_turns_begin_with_the_same_bytes",
    "the system text is process-wide and read again": "test_four_prompts_at_once_do_not_mix",
    "names in a system text are substituted": "test_names_that_the_cli_would_substitute_in_a_system_text_are_broken_up",
    "a system text loses newlines": "test_of_a_system_text_only_white_space_at_its_ends_is_lost",
    "an empty system text is no valid instruction": "test_of_a_system_text_only_white_space_at_its_ends_is_lost",
    "session/load ignores the settings of the directory": (
        "test_sampling_values_hold_with_a_history_too_and_the_second_time_without_a_new_process"
    ),
    "an alias is lost when the CLI renames the model": "test_a_model_that_the_cli_renames_keeps_its_sampling",
    "without previews another model answers": "test_an_account_without_previews_is_answered_by_another_model_and_that_is_told",
    "loading repeats the history as if it were the answer": "test_history_goes_up_turn_by_turn_and_is_not_taken_for_the_answer",
    "a turn that looks like a command is dropped from a history": "test_no_turn_of_a_history_is_dropped_whatever_it_looks_like",
    "slash commands are run and billed as answers": "test_no_text_of_a_prompt_is_anything_but_text",
    "a command can be split over parts": "test_a_command_split_over_parts_is_not_run",
    "@file is included": "test_a_path_in_any_place_of_a_prompt_reads_no_file",
    "a prompt in argv is cut at 128 KB": "test_a_prompt_of_a_megabyte_arrives_whole",
    # --- what comes down
    "the quota is asked for and not told": "test_every_answer_tells_the_quota_of_the_models",
    "usage comes without thoughts": "test_reasoning_comes_through_and_is_counted",
    "MAX_TOKENS looks like success": "test_an_answer_that_used_all_its_tokens_was_cut_by_length",
    "flash models retry in silence, for hours": "test_the_reason_for_silence_is_found",
    "stderr is held back until the end": "test_silence_is_explained_by_what_the_program_says_when_it_ends",
    "VALIDATION_REQUIRED and 404 come as code 500": "test_a_failure_is_recognised_and_says_nothing",
    "an answer without an end looks like success": "test_an_answer_that_breaks_off_is_no_answer",
    "half an event is passed over": "test_half_an_event_inside_an_answer_is_passed_over",
    "prompts stay on disk: records, error reports": "test_no_word_of_a_prompt_stays_on_disk",
    # --- processes
    "memory grows with every session": "test_a_worker_that_has_grown_too_large_is_replaced_after_its_answer",
    "a second prompt in a session is not answered": "test_no_session_is_used_twice",
    "tools and permissions are asked for": "test_what_the_program_asks_for_is_refused",
    "a cancelled prompt is confirmed, or the worker is killed": "test_cancelling_leaves_no_process_within_two_seconds",
}


def test_every_trap_has_its_test() -> None:
    written = {
        node.name
        for folder in ("real/test_gemini", "providers/test_gemini", "contracts/test_adapter")
        for file in TESTS.glob(f"{folder}*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name for name in TRAPS.values() if name not in written} == set()


def test_a_stale_lock_of_a_killed_worker_does_not_stall_the_next_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "worker-1")
    home.prepare(Login(key=True, stamp="", identity=""), ())
    (tmp_path / "worker-1" / ".gemini" / "projects.json.lock").mkdir()
    home.prepare(Login(key=True, stamp="", identity=""), ())
    assert not (tmp_path / "worker-1" / ".gemini" / "projects.json.lock").exists()


@pytest.mark.parametrize(("key", "kind"), [(True, "gemini-api-key"), (False, "oauth-personal")])
def test_the_kind_of_login_is_always_named(key: bool, kind: str) -> None:
    assert home_settings(key, {})["security"]["auth"]["selectedType"] == kind


def test_nothing_of_a_prompt_can_reach_an_argument() -> None:
    assert ARGUMENTS == ("--acp", "--admin-policy", "{policy}", "-e", "none")


def test_a_folder_that_cannot_be_written_makes_a_login_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of("gemini", tmp_path, account=Account(config_dir=str(tmp_path)))
    (tmp_path / "oauth_creds.json").write_text('{"refresh_token": "y"}')
    login = find_login(place)
    assert isinstance(login, Login)
    assert login.writable
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    login = find_login(place)
    assert isinstance(login, Login)
    assert not login.writable
