"""What iperf3 (its JSON) and ping print, as numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from statistics import median
from typing import Any


def gbits(document: Mapping[str, Any]) -> float:
    """Return what the receiver got, in Gbit/s, all streams together. Raises ValueError."""
    return float(_received(document)["bits_per_second"]) / 1e9


def kpps(document: Mapping[str, Any], payload: int) -> float:
    """Return the datagrams that arrived, in thousands each second; `payload` is their size. Raises ValueError."""
    received = _received(document)
    seconds = float(received["seconds"])
    if seconds <= 0:
        raise ValueError(f"iperf3 measured {seconds} s")
    return float(received["bytes"]) / payload / seconds / 1e3


def refusal(document: Mapping[str, Any]) -> str | None:
    """Return why iperf3 could not measure, None when it has."""
    error = document.get("error")
    return None if error is None else str(error)


def round_trips(text: str) -> list[float]:
    """Return the round trips that ping printed, in microseconds."""
    return [1e3 * float(time) for time in re.findall(r"time=([\d.]+) ms", text)]


def median_round_trip(text: str) -> float:
    """Return the median round trip in microseconds. Raises ValueError when nothing came back."""
    if not (times := round_trips(text)):
        raise ValueError(f"ping got no answer: {text.strip()[-200:]}")
    return median(times)


def _received(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if (error := refusal(document)) is not None:
        raise ValueError(f"iperf3: {error}")
    try:
        received: Mapping[str, Any] = document["end"]["sum_received"]
    except KeyError as missing:
        raise ValueError(f"iperf3 printed no {missing}: is it older than 3.7?") from None
    return received
