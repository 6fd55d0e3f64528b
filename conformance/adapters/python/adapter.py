"""An adapter (see ../../ADAPTER.md) for the layers below protomux, on PyNaCl and the standard library.

Written from ../../../vectors/README.md and SPECIFICATION.md alone; the clauses are named where they are carried out.
"""
import hashlib
import hmac
import json
import struct
import sys

from nacl import bindings as sodium
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey

MAX_UINT = 2**53 - 1
MAX_FRAME = 0xFFFFFF

class Refused(Exception):  # by which layer, and how
    def __init__(self, layer, cls, message="", **more):
        self.answer = {"layer": layer, "class": cls, "message": message, **more}

def unhex(text):
    return None if text is None else bytes.fromhex(text)

# --- Values: section 3. A decoder takes the data and a position, and returns a JSON value and the position after it.

def take(data, at, n):
    if n > len(data) - at:
        raise Refused("encoding", "out-of-bounds", f"{n} bytes needed, {len(data) - at} left", offset=at)
    return data[at : at + n], at + n

def fixed_uint(size):
    def decode(data, at):
        value, after = int.from_bytes(take(data, at, size)[0], "little"), at + size
        if value > MAX_UINT:
            raise Refused("encoding", "unsafe-integer", str(value), offset=at)
        return value, after

    def encode(value):
        if int(value) > MAX_UINT:
            raise Refused("encoding", "unsafe-integer", str(value))
        return int(value).to_bytes(size, "little")

    return decode, encode

UINTS = {n: fixed_uint(n) for n in (1, 2, 3, 4, 8)}

def decode_uint(data, at):  # ENC-1, ENC-3
    (first,), after = take(data, at, 1)
    return (first, after) if first <= 0xFC else UINTS[{0xFD: 2, 0xFE: 4, 0xFF: 8}[first]][0](data, after)

def encode_uint(value):
    value = int(value)
    if value <= 0xFC:
        return bytes([value])
    for marker, size in (0xFD, 2), (0xFE, 4), (0xFF, 8):
        if value < 256**size:
            return bytes([marker]) + UINTS[size][1](value)
    raise Refused("encoding", "unsafe-integer", str(value))

def decode_bytes(data, at):
    length, after = decode_uint(data, at)
    return take(data, after, length)

def encode_bytes(value):
    return encode_uint(len(value)) + value

def decode_text(data, at):  # ENC-8
    part, after = decode_bytes(data, at)
    return part.decode("utf-8", "replace"), after

def decode_words(data, at):  # ENC-12
    count, after = decode_uint(data, at)
    part, after = take(data, after, count * 4)
    return list(struct.unpack(f"<{count}I", part)), after

def sized(n):
    def encode(value):
        if len(value) // 2 != n:
            raise Refused("encoding", "bad-length", f"{n} bytes are wanted")
        return unhex(value)

    return (lambda data, at: hexed(take(data, at, n))), encode

def hexed(result):
    return result[0].hex(), result[1]

def array(item):
    def decode(data, at):  # ENC-11: the count is checked before there is room for its items
        count, at = decode_uint(data, at)
        if count > 0x100000:
            raise Refused("encoding", "array-too-big", str(count))
        out = []
        for _ in range(count):
            value, at = item[0](data, at)
            out.append(value)
        return out, at

    return decode, lambda values: encode_uint(len(values)) + b"".join(map(item[1], values))

TYPES = {
    "uint": (decode_uint, encode_uint),
    **{f"uint{8 * n}": pair for n, pair in UINTS.items()},
    "buffer": (lambda d, at: hexed(decode_bytes(d, at)), lambda v: encode_bytes(unhex(v))),
    "optionalBuffer": (lambda d, at: (hexed(decode_bytes(d, at))[0] or None, decode_bytes(d, at)[1]), lambda v: encode_bytes(unhex(v) or b"")),
    "string": (decode_text, lambda v: encode_bytes(v.encode())),
    "fixed32": sized(32),
    "fixed64": sized(64),
    "raw": (lambda d, at: (d[at:].hex(), len(d)), unhex),
    "uint32array": (decode_words, lambda v: encode_uint(len(v)) + struct.pack(f"<{len(v)}I", *v)),
}
TYPES.update({f"array:{name}": array(TYPES[name]) for name in ("uint", "fixed32", "buffer", "string")})

def compact_decode(type, bytes):
    value, consumed = TYPES[type][0](unhex(bytes), 0)
    return {"value": value, "consumed": consumed}

def compact_encode(type, value):
    return {"bytes": TYPES[type][1](value).hex()}

# --- Keys and frames: section 4.

def blake(*parts, key=b""):
    return hashlib.blake2b(b"".join(parts), digest_size=32, key=key).digest()

def namespace(name, i):  # KEY-2
    return blake(blake(name), bytes([i]))

def role(is_initiator):
    return namespace(b"hyperswarm/secret-stream", 0 if is_initiator else 1)

def of_32(data):
    if len(data) != 32:
        raise Refused("key", "bad-length", f"{len(data)} bytes")
    return data

def key_pair(seed):
    public = public_key(of_32(unhex(seed))).hex()
    return {"publicKey": public, "secretKey": seed + public}

def capability(isInitiator, key, handshakeHash):  # KEY-7
    return {"capability": blake(namespace(b"hypercore", 2 - isInitiator), unhex(key), key=unhex(handshakeHash)).hex()}

def frame_encode(body):
    if len(body) // 2 > MAX_FRAME:
        raise Refused("frame", "too-large")
    return {"bytes": (len(body) // 2).to_bytes(3, "little").hex() + body}

def frame_decode(chunks, end):
    data, at, frames = b"".join(map(unhex, chunks)), 0, []
    while len(data) - at >= 3 and len(data) - at - 3 >= (size := int.from_bytes(data[at : at + 3], "little")):
        frames.append(data[at + 3 : at + 3 + size].hex())
        at += 3 + size
    if end and at < len(data):
        raise Refused("frame", "truncated", frames=len(frames))
    return {"frames": frames, "pending": len(data) - at}

# --- The Noise handshake: section 5.

def public_key(seed):
    return bytes(SigningKey(seed).verify_key)

def dh(seed, point):  # NOISE-2 to NOISE-7; libsodium refuses the points
    scalar = bytearray(hashlib.sha512(seed).digest()[:32])
    scalar[0] &= 0xF8
    scalar[31] = scalar[31] & 0x7F | 0x40
    try:
        return sodium.crypto_scalarmult_ed25519_noclamp(bytes(scalar), point)
    except CryptoError as error:
        raise Refused("noise", "bad-point", str(error)) from None

def noise_dh(publicKey, seed):
    if len(unhex(publicKey)) != 32:
        raise Refused("noise", "bad-length")
    return {"shared": dh(unhex(seed), unhex(publicKey)).hex()}

PATTERNS = {
    "NN": ["e", "e ee"],
    "XX": ["e", "e ee s es", "s se"],
    "IK": ["e es s ss", "e ee se"],
    "XK": ["e es", "e ee", "s se"],
}

class Handshake:
    def __init__(self, pattern, isInitiator, staticSeed, ephemeralSeed, remotePublicKey, psk, prologue):
        self.psk = self.mixes_e = pattern.endswith("psk0")
        base = pattern.removesuffix("psk0")
        self.messages, self.initiator = list(PATTERNS[base]), isInitiator
        self.seeds = {"s": unhex(staticSeed), "e": unhex(ephemeralSeed)}
        self.remote = {"s": unhex(remotePublicKey), "e": None}
        self.h = self.ck = f"Noise_{pattern}_Ed25519_ChaChaPoly_BLAKE2b".encode().ljust(64, b"\0")
        self.key, self.n, self.secret = None, 0, unhex(psk)
        self.mix_hash(unhex(prologue))
        if base in ("IK", "XK"):  # NOISE-9, NOISE-10
            self.mix_hash(self.remote["s"] if isInitiator else public_key(self.seeds["s"]))

    def mix_hash(self, data):
        self.h = hashlib.blake2b(self.h + data).digest()

    def hkdf(self, data, count):  # NOISE-16
        temp, out = hmac.digest(self.ck, data, "blake2b"), [b""]
        for i in range(count):
            out.append(hmac.digest(temp, out[-1] + bytes([i + 1]), "blake2b"))
        return out[1:]

    def mix_key(self, data):
        self.ck, key = self.hkdf(data, 2)
        self.key, self.n = key[:32], 0

    def mix_e(self, key):
        self.mix_hash(key)
        if self.mixes_e:
            self.mix_key(key)
        return key

    def nonce(self):
        self.n += 1
        return bytes(4) + struct.pack("<Q", self.n - 1)

    def seal(self, plain):
        out = plain
        if self.key is not None:
            out = sodium.crypto_aead_chacha20poly1305_ietf_encrypt(plain, self.h, self.nonce(), self.key)
        self.mix_hash(out)
        return out

    def open(self, sealed):
        out = sealed
        if self.key is not None:
            if len(sealed) < 16:  # PyNaCl would pass a negative length on
                raise Refused("noise", "handshake-failed", "the message is too short")
            out = sodium.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, self.h, self.nonce(), self.key)
        self.mix_hash(sealed)
        return out

    def agree(self, token):  # ee, es, se, ss: the initiator's key is named first
        own, theirs = token if self.initiator else token[::-1]
        self.mix_key(dh(self.seeds[own], self.remote[theirs]))

    def tokens(self):
        if not self.messages:
            raise Refused("noise", "handshake-failed", "there is no further message")
        if self.psk:  # NOISE-12
            self.ck, part, key = self.hkdf(self.secret, 3)
            self.mix_hash(part)
            self.key, self.n, self.psk = key[:32], 0, False
        return self.messages.pop(0).split()

    def write(self, payload):
        out = b""
        for token in self.tokens():
            if token == "e":
                out += self.mix_e(public_key(self.seeds["e"]))
            elif token == "s":
                out += self.seal(public_key(self.seeds["s"]))
            else:
                self.agree(token)
        return {"message": (out + self.seal(payload)).hex()}

    def read(self, message):
        def shift(n):
            nonlocal message
            if len(message) < n:
                raise Refused("noise", "handshake-failed", "the message is too short")
            part, message = message[:n], message[n:]
            return part

        for token in self.tokens():
            if token == "e":
                self.remote["e"] = self.mix_e(shift(32))
            elif token == "s":
                self.remote["s"] = self.open(shift(32 if self.key is None else 48))
            else:
                self.agree(token)
        return {"payload": self.open(message).hex()}

def noise_handshake(steps, **options):
    noise, out = Handshake(**options), []
    for i, step in enumerate(steps):
        try:
            out.append(noise.write(unhex(step["write"])) if "write" in step else noise.read(unhex(step["read"])))
        except Refused as error:
            error.answer["step"] = i
            raise
        except CryptoError as error:
            raise Refused("noise", "handshake-failed", str(error), step=i) from None
    if noise.messages:
        tx = rx = remote = None
    else:
        pair = [key[:32].hex() for key in noise.hkdf(b"", 2)]  # NOISE-15
        (tx, rx), remote = pair if noise.initiator else pair[::-1], noise.remote["s"]
    last = {"hash": noise.h.hex() if tx else None, "tx": tx, "rx": rx, "remotePublicKey": remote and remote.hex()}
    return {"steps": out, "complete": tx is not None, **last}

# --- The secret stream: section 6. libsodium's state is k, then counter || inonce, then padding.

def stream_header(handshakeHash, isInitiator, record):
    record = unhex(record)
    if len(record) != 56:
        raise Refused("secretstream", "bad-length")
    if record[:32] != blake(role(not isInitiator), key=unhex(handshakeHash)):
        raise Refused("secretstream", "wrong-stream-id")
    return {"header": record[32:].hex()}

def secret_state(key=None, header=None, state=None):
    out = sodium.crypto_secretstream_xchacha20poly1305_state()
    # What init_push does with a header that it draws. Of a state in the middle, it is overwritten.
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(out, unhex(header or "00" * 24), unhex(key or "00" * 32))
    if state is not None:
        raw = unhex(state["key"]) + struct.pack("<I", state["counter"]) + unhex(state["nonce"])
        sodium.crypto_secretstream.ffi.memmove(out.statebuf, raw.ljust(52, b"\0"), 52)
    return out

def shown(state):
    raw = bytes(sodium.crypto_secretstream.ffi.buffer(state.statebuf, 52))
    return {"key": raw[:32].hex(), "nonce": raw[36:44].hex(), "counter": struct.unpack("<I", raw[32:36])[0]}

def stream_push(messages, **start):
    state, records = secret_state(**start), []
    for message in messages:
        plain = unhex(message["plaintext"])
        if len(plain) > MAX_FRAME - 17:
            raise Refused("frame", "too-large")
        records.append(sodium.crypto_secretstream_xchacha20poly1305_push(state, plain, tag=message["tag"]).hex())
    return {"records": records, "state": shown(state)}

def stream_pull(records, **start):
    state, messages = secret_state(**start), []
    for i, record in enumerate(map(unhex, records)):
        if len(record) < 17:
            raise Refused("secretstream", "bad-length", record=i)
        try:
            plain, tag = sodium.crypto_secretstream_xchacha20poly1305_pull(state, record)
        except (CryptoError, RuntimeError) as error:
            raise Refused("secretstream", "bad-mac", str(error), record=i) from None
        messages.append({"plaintext": plain.hex(), "tag": tag})
    return {"messages": messages, "state": shown(state)}

# --- Datagrams: section 7.

def datagram_key(handshakeHash, isInitiator):
    return blake(role(isInitiator), namespace(b"hyperswarm/secret-stream", 2), key=unhex(handshakeHash))

def datagram_seal(handshakeHash, isInitiator, counter, plaintext):
    number = struct.pack("<Q", (struct.unpack("<Q", unhex(counter))[0] + 1) % 2**64)
    key = datagram_key(handshakeHash, isInitiator)
    return {"datagram": (number + sodium.crypto_secretbox(unhex(plaintext), number.ljust(24, b"\0"), key)).hex()}

def datagram_open(handshakeHash, isInitiator, datagram):
    datagram = unhex(datagram)
    if len(datagram) < 24:
        raise Refused("datagram", "bad-length")
    key = datagram_key(handshakeHash, not isInitiator)
    try:
        return {"plaintext": sodium.crypto_secretbox_open(datagram[8:], datagram[:8].ljust(24, b"\0"), key).hex()}
    except CryptoError as error:
        raise Refused("datagram", "bad-mac", str(error)) from None

OPS = {
    "compact.decode": compact_decode,
    "compact.encode": compact_encode,
    "key.hash": lambda parts, key: {"hash": blake(*map(unhex, parts), key=unhex(key) or b"").hex()},
    "key.namespace": lambda name, count: {"namespaces": [namespace(name.encode(), i).hex() for i in range(count)]},
    "key.discoveryKey": lambda key: {"discoveryKey": blake(b"hypercore", key=of_32(unhex(key))).hex()},
    "key.capability": capability,
    "key.keyPair": key_pair,
    "frame.encode": frame_encode,
    "frame.decode": frame_decode,
    "noise.publicKey": lambda seed: {"publicKey": public_key(unhex(seed)).hex()},
    "noise.dh": noise_dh,
    "noise.handshake": noise_handshake,
    "stream.id": lambda handshakeHash, isInitiator: {"id": blake(role(isInitiator), key=unhex(handshakeHash)).hex()},
    "stream.header": stream_header,
    "stream.push": stream_push,
    "stream.pull": stream_pull,
    "datagram.keys": lambda handshakeHash, isInitiator: {
        "send": datagram_key(handshakeHash, isInitiator).hex(),
        "receive": datagram_key(handshakeHash, not isInitiator).hex(),
    },
    "datagram.seal": datagram_seal,
    "datagram.open": datagram_open,
}

HELLO = {"protocol": 1, "name": "pynacl-example", "version": "1.0.0", "language": "python", "release": None}
HELLO.update(ops=sorted(OPS), live=False)

def answer(op, input):
    if op == "hello":
        return {"ok": HELLO}
    if op not in OPS:
        return {"unsupported": True}
    try:
        return {"ok": OPS[op](**input)}
    except Refused as error:
        return {"error": error.answer}

for line in sys.stdin.buffer:
    request = json.loads(line)
    print(json.dumps({"id": request["id"], **answer(request["op"], request["input"])}), flush=True)
