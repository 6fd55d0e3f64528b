#!/usr/bin/env python3
"""An adapter (see ../ADAPTER.md) for values and frames. It implements them here; yours would call your library."""
import json
import struct
import sys


class Refused(Exception):  # by which layer, and how
    def __init__(self, layer, cls, message, **more):
        self.answer = {"layer": layer, "class": cls, "message": message, **more}


def take(data, at, n):
    if n > len(data) - at:
        raise Refused("encoding", "out-of-bounds", f"{n} bytes needed, {len(data) - at} left", offset=at)
    return data[at : at + n], at + n


# A decoder takes the data and a position, and returns a JSON value and the position after it.
def number(size):
    def decode(data, at):
        part, after = take(data, at, size)
        value = int.from_bytes(part, "little")
        if value > 2**53 - 1:
            raise Refused("encoding", "unsafe-integer", f"{value} is above 2^53-1", offset=at)
        return value, after

    return decode


def uint(data, at):
    first, at = take(data, at, 1)
    return (first[0], at) if first[0] < 0xFD else number(2 << first[0] - 0xFD)(data, at)


def prefixed(convert, size=1):
    def decode(data, at):
        count, at = uint(data, at)
        part, at = take(data, at, count * size)
        return convert(part), at

    return decode


def array(item):
    def decode(data, at):
        count, at = uint(data, at)
        if count > 0x100000:
            raise Refused("encoding", "array-too-big", f"{count} items", offset=at)
        values = []
        for _ in range(count):
            value, at = item(data, at)
            values.append(value)
        return values, at

    return decode


TYPES = {f"uint{8 * n}": number(n) for n in (1, 2, 3, 4, 8)}
TYPES |= {f"fixed{n}": (lambda data, at, n=n: (take(data, at, n)[0].hex(), at + n)) for n in (32, 64)}
TYPES |= {"uint": uint, "raw": lambda data, at: (data[at:].hex(), len(data))}
TYPES |= {"uint32array": prefixed(lambda part: [word for (word,) in struct.iter_unpack("<I", part)], 4)}
TYPES |= {"buffer": prefixed(bytes.hex), "optionalBuffer": prefixed(lambda part: part.hex() or None)}
TYPES |= {"string": prefixed(lambda part: part.decode("utf-8", "replace"))}
TYPES |= {f"array:{name}": array(TYPES[name]) for name in ("uint", "fixed32", "buffer", "string")}


def compact_decode(input):
    return dict(zip(("value", "consumed"), TYPES[input["type"]](bytes.fromhex(input["bytes"]), 0)))


def frame_encode(input):
    size = len(input["body"]) // 2
    if size > 0xFFFFFF:
        raise Refused("frame", "too-large", f"{size} bytes do not fit a frame")
    return {"bytes": size.to_bytes(3, "little").hex() + input["body"]}


def frame_decode(input):
    data, frames, at = bytes.fromhex("".join(input["chunks"])), [], 0
    while len(data) - at >= 3 and at + 3 + (size := int.from_bytes(data[at : at + 3], "little")) <= len(data):
        frames.append(data[at + 3 : at + 3 + size].hex())
        at += 3 + size
    if input["end"] and at < len(data):
        raise Refused("frame", "truncated", "the stream ends within a frame", frames=len(frames))
    return {"frames": frames, "pending": len(data) - at}


OPS = {"compact.decode": compact_decode, "frame.decode": frame_decode, "frame.encode": frame_encode}
HELLO = {"protocol": 1, "name": "example", "version": "1.0.0", "language": "python", "release": None}
HELLO |= {"ops": sorted(OPS), "live": False}
for line in sys.stdin:
    request = json.loads(line)
    op = {"hello": lambda input: HELLO, **OPS}.get(request["op"])
    try:
        answer = {"ok": op(request["input"])} if op else {"unsupported": True}
    except Refused as refused:
        answer = {"error": refused.answer}
    print(json.dumps({"id": request["id"], **answer}), flush=True)
