"""Keys: shown once, stored as a hash, revoked for good."""

import ast
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap

from llmux.actors.facts.keys import Key
from llmux.actors.key_registry import IssueKey, KeyRing, LimitKey, RevokeKey, _base62, _checksum, _digest
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.events import KeyLimits
from llmux.failures import ClientFailure
from tests.actors.house import house_settings, log_of, scripted

ADMIN, API = "an-admin-key-of-the-tests", "sk-an-api-key-of-the-tests"


def open_house(tmp_path, seed=0, **changes):
    return open_system(house_settings(tmp_path, **changes), SeededClock(seed), environ={})


async def test_an_issued_key_opens_and_says_whose_it_is(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        issued = await system.key_registry.ask(IssueKey("ann", "garden"))
        principal = system.keys.principal_of(issued.secret_key)
        assert (principal.id, principal.user, principal.project) == (issued.id, "ann", "garden")
        assert principal.scopes == {"use"}


async def test_a_revoked_key_opens_nothing(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        issued = await system.key_registry.ask(IssueKey("ann", "garden"))
        assert await system.key_registry.ask(RevokeKey(issued.id))
        assert system.keys.principal_of(issued.secret_key) is None
        assert not await system.key_registry.ask(RevokeKey(issued.id))
        assert not await system.key_registry.ask(RevokeKey("nobody"))


async def test_commands_keep_to_the_terms_that_a_key_can_have(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        now = system.clock.now()
        key = await system.key_registry.ask(
            IssueKey("ann", "garden", limits=KeyLimits(tokens_per_day=5), expires_at=now + 1)
        )
        for terms in (
            {"limits": KeyLimits(tokens_per_day=0)},
            {"limits": KeyLimits(providers=["nobody"])},
            {"expires_at": now},
        ):
            with pytest.raises(ClientFailure):
                await system.key_registry.ask(IssueKey("ann", "garden", **terms))
            given = {**terms, "limits": {"tokens_per_day": 0}} if "limits" in terms else terms
            with pytest.raises(ClientFailure):
                await system.key_registry.ask(LimitKey(key.id, **given))
        assert system.facts.keys[key.id].limits == KeyLimits(tokens_per_day=5)


async def test_a_provider_that_is_gone_from_the_configuration_keeps_no_other_limit_from_changing(
    tmp_path, virtual_time
):
    async with open_house(tmp_path) as system:
        key = await system.key_registry.ask(IssueKey("ann", "garden", limits=KeyLimits(providers=["alpha"])))
    only = {"beta": scripted()}
    async with open_system(house_settings(tmp_path, only), SeededClock(2), environ={}) as system:
        changed = await system.key_registry.ask(LimitKey(key.id, limits={"requests_per_day": 3}))
        assert changed.limits == KeyLimits(requests_per_day=3, providers=["alpha"])


async def test_v3_5_keys_survive_a_restart_and_are_nowhere_in_clear(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        issued = await system.key_registry.ask(IssueKey("ann", "garden"))
        secret = issued.secret_key.split("_")[2]
        assert not any(secret.encode() in event.data for event in await log_of(system))
    async with open_house(tmp_path, seed=1) as system:
        assert system.keys.principal_of(issued.secret_key).id == issued.id
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("user", ["", "x" * 201, "line\nbreak"])
async def test_a_name_that_cannot_be_shown_is_refused(tmp_path, virtual_time, user):
    async with open_house(tmp_path) as system:
        with pytest.raises(ClientFailure) as caught:
            await system.key_registry.ask(IssueKey(user, "garden"))
        assert caught.value.param == "userId"
        assert not system.facts.keys


def ring(**changes) -> KeyRing:
    return KeyRing(pmap(), house_settings(Path("/nowhere"), **changes), now=0)


def test_the_admin_key_opens_no_model_and_an_api_key_no_admin_route():
    keys = ring(admin_key=ADMIN, api_key=API)
    assert keys.principal_of(ADMIN).scopes == {"admin"}
    assert keys.principal_of(API).scopes == {"use"}


def test_v3_3_without_an_admin_key_nothing_is_the_admin_key():
    for credential in ("", "undefined", ADMIN):
        assert ring().principal_of(credential) is None


@given(st.text())
def test_no_other_text_is_a_key(credential):
    assert ring(admin_key=ADMIN, api_key=API).principal_of(credential) is None


def test_what_is_secret_is_compared_in_constant_time():
    """By its structure. The one other comparison is of the given text with its own checksum, which keeps no secret."""
    tree = ast.parse(inspect.getsource(KeyRing))
    equal = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops)
    ]
    assert equal == ["_checksum(form[1] + form[2]) != form[3]"]
    assert sum(isinstance(node, ast.Attribute) and node.attr == "compare_digest" for node in ast.walk(tree)) == 3


def test_a_typing_error_is_no_key():
    clock = SeededClock()
    key_id, secret = _base62(clock.secret(8), 8), _base62(clock.secret(32), 43)
    keys = KeyRing(
        pmap({key_id: Key(key_id, _digest(secret), "u", "p", "", issued_at=0)}), house_settings(Path("/nowhere")), now=0
    )
    good = f"sk-lmx_{key_id}_{secret}{_checksum(key_id + secret)}"
    assert keys.principal_of(good) is not None
    for index in range(7, len(good)):
        other = "a" if good[index] != "a" else "b"
        assert keys.principal_of(good[:index] + other + good[index + 1 :]) is None
