"""What tokens cost at the vendors' APIs: a dated table that comes with the package, and the user's own prices before it.

Prices are for estimates, and are read when somebody asks what was spent; nothing of them is in the log.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from llmux.config.tables import quoted, refuse_unknown, struct_of, subtable, value_of
from llmux.failures import ConfigurationWrong

CURRENCY = "USD"
DECIMALS_MAX = 6
PRICE_MAX = 1_000_000
PATTERNS_MAX = 1_000
_PATTERN = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*._:/@=,+\[\]-]{0,231}")


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a million tokens cost, in USD. Input that the vendor's cache held, and input written into it, cost what input
    costs where they have no price of their own.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None

    def picodollars(self, *, input: int, cached_input: int, cache_write: int, output: int) -> int:
        """What so many tokens cost, exactly, in 10^-12 USD. The three kinds of input are apart from each other."""
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        parts = ((input, self.input), (cached_input, cached), (cache_write, written), (output, self.output))
        return sum(tokens * int(price.scaleb(DECIMALS_MAX)) for tokens, price in parts)


class PriceList(msgspec.Struct, frozen=True):
    """Prices by pattern, as they were on `date` ("" where there are none)."""

    date: str = ""
    models: Mapping[str, Price] = {}

    def price_of(self, provider: str, model: str) -> Price | None:
        """The price of the longest pattern that fits `model` or `provider/model`, or None."""
        fitting = [each for each in self.models if _fits(each, model) or _fits(each, f"{provider}/{model}")]
        return self.models[max(fitting, key=lambda pattern: (len(pattern), pattern))] if fitting else None


@cache
def published() -> PriceList:
    """The prices that come with the package."""
    table = tomllib.loads(Path(__file__).with_name("prices.toml").read_text("utf-8"))
    return _list(table, "prices.toml")


def own_prices(table: Mapping[str, Any], where: str) -> PriceList:
    """The user's own prices: the table [prices] of the configuration. Raises ConfigurationWrong."""
    return _list(table, where) if table else PriceList()


def _list(table: Mapping[str, Any], where: str) -> PriceList:
    refuse_unknown(table, ("date", "models"), where)
    models = subtable(table, "models", where, "prices.models")
    if len(models) > PATTERNS_MAX:
        raise ConfigurationWrong(f"{where}: models: {len(models)} patterns are too many; write at most {PATTERNS_MAX}.")
    return PriceList(_date(table.get("date", ""), where), {name: _price(name, models, where) for name in models})


def _date(value: Any, where: str) -> str:
    """The day of the prices; TOML has days of its own, without quotation marks."""
    text = value.isoformat() if type(value) is date else value_of(value, str, f"{where}: date")
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            pass
    raise ConfigurationWrong(f"{where}: date is {quoted(text)}; write the day of these prices, such as 2026-11-27.")


def _price(pattern: str, models: Mapping[str, Any], where: str) -> Price:
    place = f"{where}: {quoted(pattern)}"
    if not _PATTERN.fullmatch(pattern):
        raise ConfigurationWrong(f"{place} is no name of a model, and no pattern such as qwen3:* or ollama/*.")
    price = struct_of(subtable(models, pattern, where, f'prices.models."{pattern}"'), Price, place)
    for field in Price.__struct_fields__:
        amount: Decimal | None = getattr(price, field)
        if amount is not None and not _is_amount(amount):
            raise ConfigurationWrong(
                f"{place}: {field} is {amount}; write USD per million tokens, 0 to {PRICE_MAX}, with {DECIMALS_MAX} "
                "decimals at most."
            )
    return price


def _is_amount(amount: Decimal) -> bool:
    if not amount.is_finite() or not 0 <= amount <= PRICE_MAX:
        return False
    exponent = amount.normalize().as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -DECIMALS_MAX


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, re.split(r"\*+", pattern))))


def _fits(pattern: str, name: str) -> bool:
    return _expression(pattern).fullmatch(name) is not None
