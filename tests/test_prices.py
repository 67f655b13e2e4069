"""Prices: where they come from, which one fits a model, and which sentence answers one that cannot be."""

from decimal import Decimal
from pathlib import Path

import pytest

from llmux.config import DEFAULT_PROVIDERS, load
from llmux.config.prices import Price, PriceList, published
from llmux.failures import ConfigurationWrong


def own(home: Path, text: str) -> PriceList:
    """The prices of a configuration with this [prices]."""
    file = home / "llmux.toml"
    file.write_text(f"[prices]\n{text}", "utf-8")
    return load({"HOME": str(home), "LLMUX_CONFIG": str(file)}).prices


def refusal(home: Path, text: str) -> str:
    with pytest.raises(ConfigurationWrong) as refused:
        own(home, text)
    return str(refused.value)


def test_every_default_model_of_a_vendor_has_a_published_price_and_no_local_one_has():
    prices = published()
    for provider, values in DEFAULT_PROVIDERS.items():
        for model in values["models"]:
            assert (prices.price_of(provider, model) is None) == (provider == "ollama"), model


def test_a_published_price_is_whole():
    for pattern, price in published().models.items():
        assert 0 < (price.cached_input or 0) < price.input < price.output, pattern
        assert price.cache_write is None or price.cache_write > price.input, pattern


def test_a_model_that_nobody_listed_has_no_price():
    for model in ("claude-opus-9", "gpt-5.2", "gpt-5.2-codex-next", "gemini-3-pro", "sonnet", "x-claude-opus-4-5", ""):
        assert published().price_of("any", model) is None, model


def test_the_longest_pattern_that_fits_counts_and_may_name_the_provider():
    prices = {
        pattern: Price(input=Decimal(n), output=Decimal(n))
        for n, pattern in enumerate(("*", "qwen*", "qwen3:*", "o.a", "ollama/*:14b", "claude/*"), 1)
    }

    def of(provider: str, model: str) -> int | None:
        found = PriceList("2026-01-01", prices).price_of(provider, model)
        return None if found is None else int(found.input)

    assert [of("any", "qwen2"), of("any", "qwen3:14b"), of("ollama", "qwen3:14b")] == [2, 3, 5]
    assert [of("any", "oxa"), of("any", "o.a"), of("claude", "qwen")] == [1, 4, 6]
    assert PriceList().price_of("any", "any") is None


def test_own_prices_are_read_with_their_day(tmp_path: Path):
    prices = own(tmp_path, "date = 2026-12-01\n[prices.models]\n'qwen3:*' = { input = 0, output = 0.000001 }")
    assert prices == PriceList("2026-12-01", {"qwen3:*": Price(input=Decimal(0), output=Decimal("0.000001"))})
    assert own(tmp_path, "date = '2026-12-01'").date == "2026-12-01"
    assert own(tmp_path, "") == PriceList()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[prices.models]\nx = { input = 1, output = 1 }", "[prices]: date is ''; write the day of these prices"),
        ("date = 'yesterday'", "date is 'yesterday'; write the day"),
        ("date = '2026-02-30'", "date is '2026-02-30'"),
        ("date = 2026-12-01T10:00:00Z", "date: Expected `str`"),
        ("date = 2026-12-01\nfoo = 1", "'foo' means nothing here; known are date, models"),
        ("date = 2026-12-01\nmodels = 3", "'prices.models' is not a table"),
        ("date = 2026-12-01\nmodels.x = 3", "is not a table"),
        ("date = 2026-12-01\nmodels.x = { input = 1 }", "'x': Object missing required field `output`"),
        ("date = 2026-12-01\nmodels.x = { input = 1, output = 1, cached = 1 }", "'x': 'cached' means nothing here"),
        ("date = 2026-12-01\nmodels.x = { input = -1, output = 1 }", "'x': input is -1; write USD per million tokens"),
        ("date = 2026-12-01\nmodels.x = { input = 1, output = nan }", "'x': output is NaN; write USD"),
        ("date = 2026-12-01\nmodels.x = { input = inf, output = 1 }", "input is Infinity; write USD"),
        ("date = 2026-12-01\nmodels.x = { input = 1, output = 0.0000001 }", "with 6 decimals at most"),
        ("date = 2026-12-01\nmodels.x = { input = true, output = 1 }", "'x': input: Expected `decimal`, got `bool`"),
        ("date = 2026-12-01\nmodels.'a b' = { input = 1, output = 1 }", "'a b' is no name of a model, and no pattern"),
    ],
)
def test_a_price_that_cannot_be_is_refused_by_its_place(tmp_path: Path, text: str, said: str):
    sentence = refusal(tmp_path, text)
    assert said in sentence
    assert sentence.startswith(str(tmp_path / "llmux.toml"))
