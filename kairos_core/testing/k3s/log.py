"""The log of k3s: logrus' text format on standard error."""

from __future__ import annotations

import json
import sys
import time


class Fatal(Exception):
    """Why k3s gives up; the message is the log line that it ends with."""


def log(level: str, message: str) -> None:
    """Write one line as k3s does: time, level and message."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f'time="{stamp}" level={level} msg={json.dumps(message, ensure_ascii=False)}\n')
    sys.stderr.flush()
