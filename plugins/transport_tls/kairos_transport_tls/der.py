"""DER: the few forms of ASN.1 values that our certificates are made of. Source: X.690, sections 8 and 10.

A library that knows all of X.509 would cost every agent 5 MB, for certificates whose bytes are known beforehand.
"""

from __future__ import annotations

TRUE = b"\x01\x01\xff"


def element(tag: int, content: bytes) -> bytes:
    """Return one value: its tag, its length in the shortest form, its content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    return element(0x30, b"".join(parts))


def set_of_one(part: bytes) -> bytes:
    return element(0x31, part)


def integer(value: int) -> bytes:
    """Return a number of 0 or more: a leading zero keeps the highest bit from being a sign."""
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def bit_string(content: bytes, unused: int = 0) -> bytes:
    return element(0x03, bytes((unused,)) + content)


def octet_string(content: bytes) -> bytes:
    return element(0x04, content)


def identifier(encoded: str) -> bytes:
    """Return an object identifier, given as the hex of its content."""
    return element(0x06, bytes.fromhex(encoded))


def text(value: str) -> bytes:
    return element(0x0C, value.encode())


def utc_time(value: str) -> bytes:
    return element(0x17, value.encode())


def general_time(value: str) -> bytes:
    return element(0x18, value.encode())


def explicit(number: int, content: bytes) -> bytes:
    """Return a value under an explicit tag, `[number]`."""
    return element(0xA0 | number, content)


def implicit(number: int, content: bytes) -> bytes:
    """Return a primitive value whose own tag is replaced by `[number]`."""
    return element(0x80 | number, content)
