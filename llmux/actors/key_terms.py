"""What a key can be given: names, limits, an end. Each check raises a ClientFailure that names the field as clients write it."""

import re

from llmux.config import Settings
from llmux.events import KeyLimits
from llmux.failures import ClientFailure, printable

AMOUNT_MAX = 10**12
NAMES_MAX = 100
YEARS_MAX = 100
_YEAR_MS = 366 * 24 * 3_600_000
_MODEL = re.compile(r"[^\s*]{1,200}\*?|\*")
NO_LIMITS = KeyLimits()


def check_name(param: str, value: str, *, may_be_empty: bool = False) -> None:
    """Checks a user, a project or a label."""
    if len(value) > 200 or printable(value, 200) != value or (not value and not may_be_empty):
        raise ClientFailure(f"{param} must be 1 to 200 printable characters.", param=param)


def check_recording(wanted: bool, settings: Settings) -> None:
    """Text may be kept only where somebody has said for how long."""
    if wanted and settings.content_retention_days is None:
        raise ClientFailure(
            "recordContent: nobody has said for how long text may be kept. Set CONTENT_RETENTION_DAYS to a number of "
            "days, and start the gateway again.",
            param="recordContent",
            code="content_retention_missing",
        )


def check_expiry(expires_at: int | None, now: int) -> None:
    """A key ends in the future, or never."""
    if expires_at is None:
        return
    if expires_at <= now:
        raise ClientFailure(
            "expiresAt is in the past. To close a key at once, revoke it (DELETE /admin/api-keys/<id>).",
            param="expiresAt",
        )
    if expires_at > now + YEARS_MAX * _YEAR_MS:
        raise ClientFailure(
            f"expiresAt is more than {YEARS_MAX} years away; a key without an end has none.", param="expiresAt"
        )


def check_limits(limits: KeyLimits, settings: Settings, known: KeyLimits = NO_LIMITS) -> None:
    """Amounts are whole numbers from 1 on, names are some. What is as in `known` was checked before: the configuration may
    have changed since, and another change must not fail for it.
    """
    for field in KeyLimits.__struct_fields__:
        value = getattr(limits, field)
        if value is None or value == getattr(known, field):
            continue
        param = f"limits.{_camel(field)}"
        if isinstance(value, list):
            _check_names(param, value, settings)
        elif not 1 <= value <= AMOUNT_MAX:
            raise ClientFailure(f"{param} is {value}; write 1 to {AMOUNT_MAX}, or null for no limit.", param=param)


def _check_names(param: str, names: list[str], settings: Settings) -> None:
    if len(names) > NAMES_MAX:
        raise ClientFailure(f"{param}: at most {NAMES_MAX} names are taken.", param=param)
    if param.endswith("providers"):
        known = {*settings.providers, *settings.stand_ins}
        wrong = [name for name in names if name not in known]
        what = f"is no provider here. Known providers: {', '.join(settings.providers)}"
    else:
        wrong = [name for name in names if not _MODEL.fullmatch(name) or printable(name) != name]
        what = "is no name of a model. Only its last character may be a *, which stands for all names that begin so"
    if wrong:
        raise ClientFailure(f"{param}: '{printable(wrong[0], 60)}' {what}.", param=param)


def _camel(field: str) -> str:
    return re.sub(r"_(.)", lambda found: found[1].upper(), field)
