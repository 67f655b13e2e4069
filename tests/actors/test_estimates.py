"""Estimates: every token has the price of its kind, sums are exact, and what has no price is left out and counted."""

from decimal import Decimal
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from llmux.actors.estimates import Estimate, Prices, estimate
from llmux.actors.usage import FIGURES
from llmux.actors.usage_report import Figures
from llmux.config import ProviderSettings, replaced
from llmux.config.prices import Price, PriceList, published
from tests.actors.house import house_settings

OWN = PriceList(
    "2026-10-01",
    {
        "all": Price(input=Decimal(3), output=Decimal(15), cached_input=Decimal("0.3"), cache_write=Decimal("3.75")),
        "plain": Price(input=Decimal(2), output=Decimal(4)),
        "free": Price(input=Decimal(0), output=Decimal(0)),
    },
)
SETTINGS = replaced(
    house_settings(Path("/nowhere")),
    prices=OWN,
    providers={
        "vendor": ProviderSettings(kind="codex", default_model="x"),
        "local": ProviderSettings(kind="ollama", default_model="x"),
    },
)


def of(model: str, provider: str = "vendor", **tokens: int) -> Estimate:
    return estimate(provider, model, dict.fromkeys(FIGURES, 0) | tokens, Prices(SETTINGS))


TOKENS = {
    "input_tokens": 1_000,
    "cached_input_tokens": 600,
    "cache_write_input_tokens": 300,
    "output_tokens": 10,
    "reasoning_tokens": 9,
}


def test_each_kind_of_token_has_its_price_and_none_is_counted_twice():
    assert of("all", **TOKENS).usd == Decimal("0.001755")  # 100 * 3 + 600 * 0.3 + 300 * 3.75 + 10 * 15
    assert of("plain", **TOKENS).usd == Decimal("0.00204")  # what has no price of its own costs what input costs


def test_the_published_price_counts_where_there_is_no_own_one_and_tells_its_day():
    model = "gpt-5.2-codex"
    found = of(model, output_tokens=1_000_000)
    assert (found.usd, found.prices_date) == (published().models[model].output, published().date)
    assert of("all", output_tokens=1).prices_date == "2026-10-01"


def test_a_local_model_costs_nothing_only_where_somebody_said_so():
    assert of("free", "local", **TOKENS) == Estimate(0, 0, "2026-10-01")
    for model in ("unknown", "gpt-5.2-codex"):
        assert of(model, "local", **TOKENS) == Estimate(None, 1_010)


def test_no_tokens_cost_nothing_whatever_the_model():
    assert of("unknown") == Estimate(0)


def test_a_sum_says_how_many_tokens_it_leaves_out_and_has_the_oldest_day():
    unknown, priced = of("unknown", **TOKENS), of("plain", **TOKENS)
    assert unknown + priced == Estimate(priced.picodollars, 1_010, "2026-10-01")
    assert unknown + unknown == unknown + unknown + Estimate() == Estimate(None, 2_020)
    assert (of("gpt-5.2-codex", output_tokens=1) + priced).prices_date == "2026-10-01"


_estimates = st.one_of(
    st.just(Estimate()),
    st.builds(Estimate, st.none(), st.integers(1, 9)),
    st.builds(Estimate, st.integers(0, 10**18), st.integers(0, 9), st.sampled_from(["2026-01-01", "2026-02-01"])),
)


@given(_estimates, _estimates, _estimates)
def test_the_order_of_adding_does_not_matter(one, two, three):
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + Estimate() == one


def test_what_is_told_is_what_is_counted():
    assert set(Figures.__struct_fields__) == set(FIGURES)
    assert {field.encode_name for field in msgspec.structs.fields(Figures)} >= {"inputTokens", "durationMs"}
