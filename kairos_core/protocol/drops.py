"""The names of what is thrown away. Whatever is dropped is counted under one of these; see `kairos status`."""

from enum import StrEnum


class Drop(StrEnum):
    """Why something a peer sent was not taken."""

    # datagrams and blocks
    TRUNCATED = "truncated"  # shorter than its format needs
    OVERSIZED = "oversized"  # longer than its limit
    VERSION = "version"  # a format version we do not speak
    UNKNOWN_KEY = "unknown_key"  # sealed under no accepted key: a stranger, or a clock far off
    UNSEAL = "unseal"  # authentication failed: altered or forged
    REPLAYED = "replayed"  # this very datagram came before
    MALFORMED = "malformed"  # authentic, but not of the format
    UNKNOWN_KIND = "unknown_kind"  # authentic, of a kind we do not know
    UNKNOWN_SENDER = "unknown_sender"  # authentic, from a peer we have not met yet
    LOOPED = "looped"  # our own message came back
    BAD_NEWS = "bad_news"  # of a peer's life, from a future that it cannot have reached
    BAD_SKETCH = "bad_sketch"  # cells of a sketch that are of no set: a peer that lies
    GREEDY = "greedy"  # asks for more than we answer at a time
    # entries
    NOT_CANONICAL = "not_canonical"  # an entry with more than one encoding
    BAD_SIGNATURE = "bad_signature"  # not signed by its author
    SHUNNED = "shunned"  # from one that has just brought many of those
    FORGED_AUTHOR = "forged_author"  # the bucket does not let this author write this key
    EXPIRED = "expired"  # older than its lease
    AHEAD = "ahead"  # signed by a clock too far ahead of ours
    STALE = "stale"  # we hold a newer one: normal in gossip
    TOO_FAST = "too_fast"  # its author writes faster than we take
    LEDGER_FULL = "ledger_full"  # over a limit of the ledger
    # streams
    STRANGER = "stranger"  # TLS with a certificate of no accepted network key
    BAD_HELLO = "bad_hello"  # the first message was not a greeting we understand
    SLOW_PEER = "slow_peer"  # did not finish in time
    TOO_MANY_SESSIONS = "too_many_sessions"  # more at once than we answer, or than we dial
