"""What the Gemini CLI learns of its account's quota. It asks Google with every session and tells nobody; a script that node loads
before the CLI notes the answer in the worker's home: per model the share that is left, and when it is whole again. No token is
spent, and LLMux itself asks nobody."""

import datetime
import json
from collections.abc import Mapping
from typing import Any

from llmux.providers.adapter import QuotaWindow

NOTE_TAKER = """\
"use strict";
const { renameSync, writeFileSync } = require("node:fs");
const parse = JSON.parse;
JSON.parse = function (...given) {
  const value = parse(...given);
  if (value && Array.isArray(value.buckets)) {
    try {
      const told = ({ modelId, remainingFraction, resetTime }) => ({ modelId, remainingFraction, resetTime });
      writeFileSync(__dirname + "/quota.new", JSON.stringify(value.buckets.map(told)));
      renameSync(__dirname + "/quota.new", __dirname + "/quota.json");
    } catch {}
  }
  return value;
};
"""
"""only the answer about the quota has `buckets` at its top"""

WINDOW = "model"
WARNING_PERCENT = 90


def windows(note: bytes, models: Mapping[str, str]) -> tuple[QuotaWindow, ...]:
    """The windows in a note. `models` maps models as clients name them to the upstream's names; others are left out."""
    try:
        buckets: Any = json.loads(note)
    except ValueError:
        return ()
    found: dict[str, QuotaWindow] = {}
    for bucket in buckets if isinstance(buckets, list) else ():
        left = bucket.get("remainingFraction") if isinstance(bucket, dict) else None
        if not isinstance(left, int | float) or not 0 <= left <= 1:
            continue
        used = round(100 * (1 - left))
        status = "rejected" if left == 0 else "warning" if used >= WARNING_PERCENT else "allowed"
        for model, upstream in models.items():
            known = found.get(model)
            if upstream == bucket.get("modelId") and (known is None or (known.used_percent or 0) <= used):
                found[model] = QuotaWindow(WINDOW, status, model, used, _moment(bucket.get("resetTime")))
    return tuple(found.values())


def _moment(text: Any) -> int | None:
    """An ISO time as wall time in ms, or None."""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
        return int(moment.timestamp() * 1000) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
