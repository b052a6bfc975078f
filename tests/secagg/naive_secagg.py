"""A second implementation of the protocol in plain Python integers: slow, without branches for faults, and sharing no code.

It writes the known-answer script (`python tests/secagg/naive_secagg.py > tests/vectors/secagg/rounds.json`), and a test holds the
script against both. Only hashlib and hmac are borrowed. Curves: RFC 7748, RFC 8032; AES: FIPS 197; GCM: SP 800-38D; ChaCha20: RFC 8439.
"""

import hashlib
import hmac
import json
import sys

P, L, Q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493, 2**256 - 189
D = -121665 * pow(121666, -1, P) % P


def h(label, *parts):
    return hashlib.sha256(enc(label, *parts)).digest()


def enc(label, *parts):
    return b"tutti secagg v1\0" + b"".join(len(x).to_bytes(8, "little") + x for x in (label.encode(), *parts))


def num(n):
    return n.to_bytes(8, "little")


def hkdf(secret, salt, info):
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\1", "sha256")


def clamp(raw):
    k = bytearray(raw)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    return int.from_bytes(k, "little")


def x25519(k, u=9):
    x1, x2, z2, x3, z3 = u % 2**255, 1, 0, u % 2**255, 1
    for i in range(254, -1, -1):
        bit = k >> i & 1
        if bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        x3, z3 = (d * a + c * b) ** 2 % P, x1 * (d * a - c * b) ** 2 % P
        x2, z2 = a * a * b * b % P, (a * a - b * b) * (a * a + 121665 * (a * a - b * b)) % P
        if bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return x2 * pow(z2, P - 2, P) % P


def add(p, q):
    (x1, y1), (x2, y2) = p, q
    k = D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(n, p):
    r = (0, 1)
    while n:
        if n & 1:
            r = add(r, p)
        p, n = add(p, p), n >> 1
    return r


BY = 4 * pow(5, -1, P) % P
_xx = (BY * BY - 1) * pow(D * BY * BY + 1, -1, P) % P
_x = pow(_xx, (P + 3) // 8, P)
_x = _x if _x * _x % P == _xx else _x * pow(2, (P - 1) // 4, P) % P
BASE = (_x if _x % 2 == 0 else P - _x, BY)


def point(p):
    return (p[1] | (p[0] & 1) << 255).to_bytes(32, "little")


def ed_public(seed):
    return point(times(clamp(hashlib.sha512(seed).digest()[:32]), BASE))


def ed_sign(seed, message):
    d = hashlib.sha512(seed).digest()
    a, pub = clamp(d[:32]), ed_public(seed)
    r = int.from_bytes(hashlib.sha512(d[32:] + message).digest(), "little") % L
    big_r = point(times(r, BASE))
    k = int.from_bytes(hashlib.sha512(big_r + pub + message).digest(), "little") % L
    return big_r + ((r + k * a) % L).to_bytes(32, "little")


def xtime(a):
    return (a << 1 ^ 0x11B) & 0xFF if a & 0x80 else a << 1


def gmul(a, b):
    r = 0
    while b:
        r ^= a if b & 1 else 0
        a, b = xtime(a), b >> 1
    return r


def _sbox(a):
    i = next((b for b in range(256) if gmul(a, b) == 1), 0)
    r = 0x63
    for s in range(5):
        r ^= (i << s | i >> (8 - s)) & 0xFF
    return r


SBOX = [_sbox(a) for a in range(256)]


def aes_schedule(key):
    w = [list(key[i : i + 4]) for i in range(0, 32, 4)]
    rcon = 1
    for i in range(8, 60):
        t = w[-1]
        if i % 8 == 0:
            t = [SBOX[b] for b in t[1:] + t[:1]]
            t[0] ^= rcon
            rcon = xtime(rcon)
        elif i % 8 == 4:
            t = [SBOX[b] for b in t]
        w.append([a ^ b for a, b in zip(w[i - 8], t, strict=True)])
    return [[byte for word in w[4 * r : 4 * r + 4] for byte in word] for r in range(15)]


def aes(schedule, block):
    s = [a ^ b for a, b in zip(block, schedule[0], strict=True)]
    for r in range(1, 15):
        s = [SBOX[s[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if r < 14:
            m = []
            for c in range(0, 16, 4):
                for i in range(4):
                    a = [s[c + (i + j) % 4] for j in range(4)]
                    m.append(xtime(a[0]) ^ xtime(a[1]) ^ a[1] ^ a[2] ^ a[3])
            s = m
        s = [a ^ b for a, b in zip(s, schedule[r], strict=True)]
    return bytes(s)


def gcm(key, nonce, plain, ad):
    schedule = aes_schedule(key)
    hk = int.from_bytes(aes(schedule, bytes(16)), "big")
    stream = b"".join(aes(schedule, nonce + (2 + i).to_bytes(4, "big")) for i in range(-(-len(plain) // 16)))
    cipher = bytes(a ^ b for a, b in zip(plain, stream, strict=False))
    y = 0
    sizes = (8 * len(ad)).to_bytes(8, "big") + (8 * len(cipher)).to_bytes(8, "big")
    for part in (ad, cipher, sizes):
        for i in range(0, len(part), 16):
            x, v, y = y ^ int.from_bytes(part[i : i + 16].ljust(16, b"\0"), "big"), hk, 0
            for bit in range(127, -1, -1):
                y ^= v if x >> bit & 1 else 0
                v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
    return cipher + bytes(a ^ b for a, b in zip(y.to_bytes(16, "big"), aes(schedule, nonce + b"\0\0\0\1"), strict=True))


def chacha_block(key, counter):
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    start += [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)] + [counter, 0, 0, 0]
    s = list(start)
    for _ in range(10):
        for a, b, c, d in [(i, 4 + i, 8 + i, 12 + i) for i in range(4)] + [
            (i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)
        ]:
            for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                s[x] = (s[x] + s[y]) % 2**32
                t = s[z] ^ s[x]
                s[z] = (t << n | t >> (32 - n)) % 2**32
    return b"".join(((a + b) % 2**32).to_bytes(4, "little") for a, b in zip(s, start, strict=True))


def mask_words(cipher, key, count):
    if cipher == "chacha20":
        raw = b"".join(chacha_block(key, i) for i in range(-(-count // 8)))
    else:
        schedule = aes_schedule(key)
        raw = b"".join(aes(schedule, i.to_bytes(16, "big")) for i in range(-(-count // 2)))
    return [int.from_bytes(raw[8 * i : 8 * i + 8], "little") for i in range(count)]


def entropy(seed, name):
    """Blocks of 32 bytes: what a device draws, in order."""
    i = 0
    while True:
        yield hashlib.sha256(f"{seed}/{name}/{i}".encode()).digest()
        i += 1


def shares_of(secret, t, xs, draw):
    poly = [secret] + [int.from_bytes(next(draw), "little") for _ in range(t - 1)]
    return [sum(c * x**i for i, c in enumerate(poly)) % Q for x in xs]


def round_script(case):
    """Every message of a round, and its sums."""
    asked, n, t = case["parameters"], case["devices"], case["threshold"]
    body = {**case["context"], "parameters": asked}
    ctx0 = h("context", b"tutti-secagg-1", json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    authority = hashlib.sha256(f"{case['seed']}/authority".encode()).digest()
    devices = []
    for name in range(n):
        draw = entropy(case["seed"], name)
        ident, ck, mk = next(draw), clamp(next(draw)), clamp(next(draw))
        pub, cp, mp = ed_public(ident), x25519(ck).to_bytes(32, "little"), x25519(mk).to_bytes(32, "little")
        word = ed_sign(authority, enc("one-time certificate", pub, num(case["context"]["epoch"])))
        advert = {"identity": pub.hex(), "epoch": case["context"]["epoch"], "certificate": word.hex()}
        advert |= {"cipher_key": cp.hex(), "mask_key": mp.hex()}
        advert |= {"signature": ed_sign(ident, enc("advertise keys", ctx0, cp, mp)).hex()}
        digest = h("keys", pub, cp, mp)
        devices.append({"name": name, "draw": draw, "ident": ident, "pub": pub, "ck": ck, "mk": mk, "cp": cp, "mp": mp, "d": digest,
                        "advert": advert})  # fmt: skip
    devices.sort(key=lambda d: d["pub"])
    ids, digests = b"".join(d["pub"] for d in devices), b"".join(d["d"] for d in devices)
    ctx1 = h("context with roster", ctx0, ids, digests)
    on_ring = asked["degree"] < n - 1
    near = ring(n, asked["degree"], ctx0, ids) if on_ring else [[o for o in range(n) if o != s] for s in range(n)]
    seal_words(devices, ctx1, t, near)
    sharing = [s for s in range(n) if devices[s]["name"] not in case["never_share"]]
    alive = [s for s in sharing if devices[s]["name"] not in case["drop"]]
    a1, a2 = (bytes(sum(1 << (s % 8) for s in group if s // 8 == b) for b in range(-(-n // 8))) for group in (sharing, alive))
    total = {v["name"]: [0] * v["length"] for v in asked["vectors"]}
    out = {"ctx0": ctx0.hex(), "ctx1": ctx1.hex(), "identities": ids.hex(), "key_digests": digests.hex(), "sharers": a1.hex()}
    out |= {"survivors": a2.hex(), "authority": ed_public(authority).hex(), "devices": {}}
    if on_ring:
        out["witnesses"] = sorted(ring_order(n, ctx0, ids)[: asked["degree"]])
    for s, dev in enumerate(devices):
        reply = {"slot": s, "advertise_keys": dev["advert"], "share_keys": dev["deal"]}
        if on_ring:
            reply["share_keys"]["signature"] = ed_sign(dev["ident"], enc("share keys", ctx1, num(s))).hex()
        if s in sharing:
            reply["masked_input"] = [f"{w:016x}" for w in masked(case, devices, s, [o for o in near[s] if o in sharing], ctx1)]
        if s in alive:
            for v in asked["vectors"]:
                for i, x in enumerate(case["inputs"][str(dev["name"])][v["name"]]):
                    total[v["name"]][i] += x
            reply["consistency_check"] = ed_sign(dev["ident"], enc("consistency check", ctx1, a1, a2)).hex()
            listed = [(o, "self mask" if o in alive else "mask key") for o in near[s] if o in sharing]
            blob = b"".join(num(o) + kind.encode().ljust(16, b"\0") for o, kind in listed)
            reply["releases"] = [[o, kind, devices[o]["plain"][s][kind == "mask key"].hex()] for o, kind in listed]
            reply["release_signature"] = ed_sign(dev["ident"], enc("release", ctx1, a1, a2, blob)).hex()
        out["devices"][str(dev["name"])] = reply
    return out | {"integer_sums": total, "sums": {v["name"]: decoded(v, total[v["name"]]) for v in asked["vectors"]}}


def decoded(v, sums):
    """What the lanes of the summed words give back: the sums themselves, unless a lane overflowed."""
    lanes, bits = 64 // v["lane_bits"], v["lane_bits"]
    count = -(-v["length"] // lanes)
    out = [0] * v["length"]
    for w in range(count):
        rest = sum(sums[j * count + w] << (bits * j) for j in range(lanes) if j * count + w < v["length"]) % 2**64
        for j in range(lanes):
            low = rest % 2**bits
            low -= 2**bits if low >= 2 ** (bits - 1) else 0
            if j * count + w < v["length"]:
                out[j * count + w] = low
            rest = (rest - low) % 2**64 >> bits
    return out


def seal_words(devices, ctx1, t, near):
    """Deals both secrets of every device to those near it."""
    for s, dev in enumerate(devices):
        dev["seed"] = int.from_bytes(next(dev["draw"]), "little")
        peers = near[s]
        own = shares_of(dev["seed"], t, [o + 1 for o in peers], dev["draw"])
        key = shares_of(dev["mk"], t, [o + 1 for o in peers], dev["draw"])
        dev["plain"] = {
            o: (a.to_bytes(32, "little"), b.to_bytes(32, "little")) for o, a, b in zip(peers, own, key, strict=True)
        }
        sealed = []
        for o in peers:
            secret = x25519(dev["ck"], int.from_bytes(devices[o]["cp"], "little")).to_bytes(32, "little")
            kinds = (b"self mask", b"mask key")
            commit = [h("share commitment", ctx1, num(s), num(o), k, x) for k, x in zip(kinds, dev["plain"][o], strict=True)]
            ad = enc("sealed shares", ctx1, num(s), num(o), *commit)
            box = gcm(hkdf(secret, ctx1, enc("sealed shares", num(s), num(o))), bytes(12), b"".join(dev["plain"][o]), ad)
            sealed.append([o, box.hex(), commit[0].hex(), commit[1].hex()])
        dev["deal"] = {"seed_commitment": h("seed commitment", ctx1, num(s), dev["seed"].to_bytes(32, "little")).hex()}
        dev["deal"] |= {"shares": sealed}


def masked(case, devices, s, peers, ctx1):
    """The masked words of slot s, with a mask for each of its peers."""
    dev, words = devices[s], []
    for v in case["parameters"]["vectors"]:
        lanes = 64 // v["lane_bits"]
        count = -(-v["length"] // lanes)
        x = case["inputs"][str(dev["name"])][v["name"]] + [0] * (lanes * count)
        part = [
            sum(x[j * count + w] << (v["lane_bits"] * j) for j in range(lanes) if j * count + w < v["length"])
            for w in range(count)
        ]
        form = (v["name"].encode(), num(v["length"]), num(v["lane_bits"]), v["kind"].encode())
        cipher = case["parameters"]["cipher"]
        own = mask_words(cipher, hkdf(dev["seed"].to_bytes(32, "little"), ctx1, enc("self mask", num(s), *form)), count)
        part = [a + b for a, b in zip(part, own, strict=True)]
        for o in peers:
            secret = x25519(dev["mk"], int.from_bytes(devices[o]["mp"], "little")).to_bytes(32, "little")
            key = hkdf(secret, ctx1, enc("pairwise mask", num(min(s, o)), num(max(s, o)), *form))
            sign = 1 if s < o else -1
            part = [a + sign * b for a, b in zip(part, mask_words(cipher, key, count), strict=True)]
        words += [w % 2**64 for w in part]
    return words


def ring_order(n, ctx0, identities):
    """The slot at each place."""
    raw = hashlib.shake_256(h("graph", ctx0, identities)).digest(8 * n)
    return sorted(range(n), key=lambda i: int.from_bytes(raw[8 * i : 8 * i + 8], "little"))


def ring(n, degree, ctx0, identities):
    """Neighbours of every slot."""
    order = ring_order(n, ctx0, identities)
    place = {slot: i for i, slot in enumerate(order)}
    return [sorted(order[(place[s] + k) % n] for k in range(-(degree // 2), degree // 2 + 1) if k) for s in range(n)]


CONTEXT = {"round_id": "vectors", "model_digest": "aa", "config_digest": "bb", "ledger_checkpoint": "cc", "epoch": 7}


def cases():
    """The rounds of the script; failures change one message and name the reason that must come out."""
    for name, devices, threshold, cipher, never, drop in (
        ("everybody stays", 6, 4, "aes-256-ctr", [], []),
        ("one never shares, one drops out after sharing", 9, 6, "aes-256-ctr", [4], [2]),
        ("chacha20, one drops out", 6, 4, "chacha20", [], [0]),
        ("a ring, one never shares, one drops out", 66, 3, "aes-256-ctr", [20], [40]),
    ):
        vectors = [{"name": "update", "length": 7, "lane_bits": 21, "kind": "exact", "largest": 1000}]
        vectors += [{"name": "votes", "length": 3, "lane_bits": 12, "kind": "modular", "largest": 2000}]
        on_ring = devices > 64
        parameters = {"roster_size": devices, "minimum_roster": devices, "minimum_survivors": 60 if on_ring else threshold}
        parameters |= {"degree": 4 if on_ring else devices - 1, "threshold": threshold}
        fractions = ("0.01", "0.04") if on_ring else ("0.05", "0.2")
        parameters |= {"corrupt_fraction": fractions[0], "drop_fraction": fractions[1], "vectors": vectors, "cipher": cipher}
        drawn = {
            str(d): {
                v["name"]: [(37 * d + 11 * i * i) % (2 * v["largest"]) - v["largest"] for i in range(v["length"])]
                for v in vectors
            }
            for d in range(devices)
        }
        yield {"name": name, "seed": "tutti", "devices": devices, "threshold": threshold, "context": CONTEXT, "parameters": parameters,
               "inputs": drawn, "never_share": never, "drop": drop}  # fmt: skip


FAILURES = [
    ("roster", "drop the last identity", "MALFORMED"),
    ("roster", "flip a bit of the first neighbour's mask key", "SUBSTITUTED_KEY"),
    ("roster", "flip a bit of the first neighbour's signature", "BAD_SIGNATURE"),
    ("roster", "flip a bit of the first neighbour's certificate", "UNCERTIFIED"),
    ("forwarded_shares", "flip a bit of every ciphertext", "UNUSABLE_SHARES"),
    ("forwarded_shares", "clear this device's bit among the sharers", "WRONG_SHARERS"),
    ("survivors_announcement", "clear this device's bit among the survivors", "WRONG_SURVIVORS"),
    ("survivors_announcement", "announce another context", "WRONG_CONTEXT"),
    ("unmask_request", "leave out the last signature", "TOO_FEW_SIGNATURES"),
    ("unmask_request", "flip a bit of the first signature", "BAD_SIGNATURE"),
    ("unmask_request", "ask twice", "ALREADY_RELEASED"),
]


def script():
    """The whole known-answer script."""
    rounds = []
    for case in cases():
        expected = round_script(case)
        rounds.append({**case, "expected": expected})
    graphs = [{"size": 100, "degree": 16, "ctx0": "00" * 32, "neighbours_of_0_and_99": None}]
    for item in graphs:
        found = ring(item["size"], item["degree"], bytes(32), b"".join(i.to_bytes(32, "big") for i in range(item["size"])))
        item["neighbours_of_0_and_99"] = [found[0], found[99]]
        identities = b"".join(i.to_bytes(32, "big") for i in range(item["size"]))
        item["witnesses"] = sorted(ring_order(item["size"], bytes(32), identities)[: item["degree"]])
    ident = hashlib.sha256(b"a dealer on a ring").digest()
    dealing = {"seed": ident.hex(), "ctx1": "11" * 32, "slot": 77}
    dealing |= {"signature": ed_sign(ident, enc("share keys", bytes.fromhex("11" * 32), num(77))).hex()}
    return {
        "origin": "written by tests/secagg/naive_secagg.py, which shares no code with the package; entries are only ever added",
        "entropy": "a device's draws are SHA-256(seed/name/i), i = 0, 1, ...; the authority's seed is SHA-256(seed/authority)",
        "rounds": rounds,
        "graphs": graphs,
        "dealing_on_a_ring": dealing,
        "failures": [{"message": m, "change": c, "reason": r} for m, c, r in FAILURES],
    }


if __name__ == "__main__":
    json.dump(script(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
