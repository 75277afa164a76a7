"""Names that reports had in the release before: written beside the new ones, and still read."""

from __future__ import annotations

from typing import Any

import msgspec

OLD_KEYS = {"warnings": "advice", "client_error": "broke_down", "spend_limit": "lid"}

# A departure is known in a baseline by the title of its probe, among other things.
OLD_PROBES = {
    "an id that nobody has": "an unknown id",
    "a model that is not there": "an unknown model",
}


def encode_report(report: msgspec.Struct) -> bytes:
    """A report as indented JSON, in which each renamed key has its old spelling beside it."""
    value = msgspec.to_builtins(report)
    value |= {old: value[new] for new, old in OLD_KEYS.items() if new in value}
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"


def with_new_names(value: Any) -> Any:
    """The decoded JSON of a report or a finding, with old keys and severities replaced."""
    if not isinstance(value, dict):
        return value
    value = dict(value)

    for new, old in OLD_KEYS.items():
        if old in value:
            value.setdefault(new, value.pop(old))
    if value.get("severity") == "advice":
        value["severity"] = "warning"

    if isinstance(value.get("probe"), str):
        value["probe"] = OLD_PROBES.get(value["probe"], value["probe"])

    # Only these hold findings; what else is in a report may be anything that a client sent.
    for name in ("findings", "warnings", "accepted"):
        if isinstance(value.get(name), list):
            value[name] = [with_new_names(finding) for finding in value[name]]
    return value
