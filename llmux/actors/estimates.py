"""What tokens would have cost at the vendors' APIs: an estimate, made when somebody reads what was spent. Pure.

The sums are whole numbers of picodollars (10^-12 USD): a price has at most six decimals and is for a million tokens.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from llmux.config import Settings
from llmux.config.prices import CURRENCY, Price, PriceList, published

_MICRO = Decimal("0.000001")


class Prices:
    """The prices of a configuration: the user's own before the published ones.

    A published price is never applied to a provider of kind ollama: whatever a local model is called, no vendor bills it.
    """

    def __init__(self, settings: Settings):
        self._own, self._published = settings.prices, published()
        self._local = {name for name, provider in settings.providers.items() if provider.kind == "ollama"}
        self._found: dict[tuple[str, str], tuple[Price, str] | None] = {}

    def __repr__(self) -> str:
        return f"<Prices own={self._own.date or None} published={self._published.date} {CURRENCY}>"

    def of(self, provider: str, model: str) -> tuple[Price, str] | None:
        """The price of a model and the day it is from, or None where it is not known."""
        route = (provider, model)
        if route not in self._found:
            self._found[route] = self._look_up(provider, model)
        return self._found[route]

    def _look_up(self, provider: str, model: str) -> tuple[Price, str] | None:
        lists: tuple[PriceList, ...] = (self._own,) if provider in self._local else (self._own, self._published)
        for each in lists:
            price = each.price_of(provider, model)
            if price is not None:
                return price, each.date
        return None


class Estimate(msgspec.Struct, frozen=True):
    """An estimate of what tokens would have cost. Estimates can be added.

    `picodollars` is None where no token has a price; `unpriced_tokens` are those that are not in it. `prices_date` is the day
    of the oldest price in it, None when there is none.
    """

    picodollars: int | None = 0
    unpriced_tokens: int = 0
    prices_date: str | None = None

    def __add__(self, other: "Estimate") -> "Estimate":
        if not (priced := [each for each in (self, other) if each.prices_date is not None]):
            unpriced = self.unpriced_tokens + other.unpriced_tokens
            return Estimate(None if unpriced else 0, unpriced)
        return Estimate(
            sum(each.picodollars or 0 for each in priced),
            self.unpriced_tokens + other.unpriced_tokens,
            min(each.prices_date for each in priced if each.prices_date is not None),
        )

    @property
    def usd(self) -> Decimal | None:
        """The estimate in USD, rounded to a millionth."""
        return None if self.picodollars is None else Decimal(self.picodollars).scaleb(-12).quantize(_MICRO)


def estimate(provider: str, model: str, figures: Mapping[str, int], prices: Prices) -> Estimate:
    """What the tokens of one model would have cost. `figures` are those of the usage fold, by their names there."""
    tokens_in, tokens_out = figures["input_tokens"], figures["output_tokens"]
    if not tokens_in + tokens_out:
        return Estimate()
    found = prices.of(provider, model)
    if found is None:
        return Estimate(None, tokens_in + tokens_out)
    price, date = found
    cached = min(figures["cached_input_tokens"], tokens_in)
    written = min(figures["cache_write_input_tokens"], tokens_in - cached)
    cost = price.picodollars(
        input=tokens_in - cached - written, cached_input=cached, cache_write=written, output=tokens_out
    )
    return Estimate(cost, 0, date)
