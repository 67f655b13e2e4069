"""`llmux usage`: what was spent, by whom and on what."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.cli.typed import golden_log, json_of, refused, said


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return golden_log(tmp_path)


def counted(data: Path, *types: str) -> int:
    """How many events of these types the log holds."""
    return len(said(data, "events", "--json", *(word for each in types for word in ("--type", each))).splitlines())


def test_json_has_every_figure_and_they_are_those_of_the_events(data: Path):
    found = json_of(data, "usage", "--json", "--by", "provider,model", "--by", "day")
    assert found["by"] == ["provider", "model", "day"]
    assert {row["group"]["day"] for row in found["rows"]} == {"2026-09-21"}
    ends = ("RequestCompleted", "RequestFailed", "RequestCancelled", "RequestAbandoned")
    assert found["total"]["figures"]["requests"] == counted(data, *ends)
    assert found["total"]["figures"]["failed"] == counted(data, "RequestFailed")
    assert found["total"]["figures"]["attempts"] == counted(
        data, "AttemptSucceeded", "AttemptFailed", "AttemptCancelled"
    )
    for figure, number in found["total"]["figures"].items():
        assert number == sum(row["figures"][figure] for row in found["rows"])


def test_a_table_has_right_aligned_figures_and_a_total(data: Path):
    lines = said(data, "usage").splitlines()
    assert lines[0].split()[:2] == ["provider", "requests"]
    assert [line.split()[0] for line in lines[1:]] == ["alpha", "beta", "delta", "gamma", "-", "total"]
    end = lines[0].index("requests") + len("requests")
    assert [int(line[:end].split()[-1]) for line in lines[1:]] == [12, 10, 1, 2, 3, 28]


def test_who_has_no_key_is_shown_as_who_it_is(data: Path):
    rows = json_of(data, "usage", "--by", "user,project", "--json")["rows"]
    assert {(row["group"]["user"], row["principal"]) for row in rows} == {(None, "ada"), (None, "local")}
    assert "(local)" in said(data, "usage", "--by", "user")
    assert "(local)" not in said(data, "usage", "--by", "key")


def test_usage_at_a_past_moment(data: Path):
    assert json_of(data, "usage", "--json", "--at", "5")["total"]["figures"]["requests"] == 1
    assert json_of(data, "usage", "--json", "--at", "0")["rows"] == []
    assert said(data, "usage", "--at", "0") == "Nothing was spent in that time.\n"


def test_days_are_utc_days_and_both_ends_count(data: Path):
    whole = json_of(data, "usage", "--json")["total"]
    same = json_of(data, "usage", "--json", "--from", "2026-09-21", "--to", "2026-09-21")
    assert (same["total"], same["from"], same["to"]) == (whole, "2026-09-21", "2026-09-21")
    for outside in (("--to", "2026-09-20"), ("--from", "2026-09-22")):
        assert json_of(data, "usage", "--json", *outside)["rows"] == []
    assert json_of(data, "usage", "--json", "--from", "99999d")["total"] == whole


def test_an_estimate_is_named_as_one_and_says_what_it_leaves_out(data: Path):
    without = json_of(data, "usage", "--json")["total"]
    tokens = without["figures"]["inputTokens"] + without["figures"]["outputTokens"]
    assert (without["estimatedUsd"], without["unpricedTokens"], without["pricesDate"]) == (None, tokens, None)
    assert "USD" not in said(data, "usage")

    prices = "[prices]\ndate = 2026-10-01\n[prices.models]\n'alpha/*' = { input = 1, output = 2.5 }\n"
    (data.parent / ".config/llmux").mkdir(parents=True)
    (data.parent / ".config/llmux/llmux.toml").write_text(prices, "utf-8")
    priced = json_of(data, "usage", "--json")
    alpha = next(row for row in priced["rows"] if row["group"]["provider"] == "alpha")
    figures = alpha["figures"]
    assert Decimal(alpha["estimatedUsd"]) == (figures["inputTokens"] + Decimal("2.5") * figures["outputTokens"]) / 10**6
    assert (alpha["unpricedTokens"], alpha["pricesDate"], priced["currency"]) == (0, "2026-10-01", "USD")
    assert priced["total"]["estimatedUsd"] == alpha["estimatedUsd"]
    assert priced["total"]["unpricedTokens"] == tokens - figures["inputTokens"] - figures["outputTokens"] > 0
    table = said(data, "usage")
    assert "~USD" in table.splitlines()[0]
    assert "an estimate of what the same tokens would have cost" in table
    assert f"No price is known for {priced['total']['unpricedTokens']:,} of the tokens" in table


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--by", "colour"), "usage is not known by 'colour', but by day, key, user, project, provider"),
        (("--from", "yesterday"), "'yesterday' is no day. Write one such as"),
        (("--from", "2026-11-22", "--to", "2026-11-21"), "--from is later than --to."),
        (("--at", "143"), "the log ends at position 142"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(data: Path, words: tuple[str, ...], sentence: str):
    assert sentence in refused(data, "usage", *words)
