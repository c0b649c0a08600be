#!/usr/bin/env python3
"""Independent verifier of the golden vectors: standard library only, written from the published
format (DSSE 1.0.2 signing bytes, RFC 8032 Ed25519, protobuf wire format), not from the Rust code.

Reads every vector beside this file, decides each one and compares with the outcome it names.
Exit status 0 if all agree.
"""
import base64
import hashlib
import ipaddress
import json
import pathlib
import sys
import unicodedata
import uuid


class Reject(Exception):
    """A refusal with its stable reason code."""


# --- Ed25519 (RFC 8032), strict: canonical S, no small-order A or R, cofactorless equation.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if (x * x - x2) % P:
        return None
    return P - x if x % 2 != sign else x


def add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def decompress(raw):
    value = int.from_bytes(raw, "little")
    y, sign = value & ((1 << 255) - 1), value >> 255
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def equal(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)
IDENTITY = (0, 1, 1, 0)


def public_key(raw):
    point = decompress(raw) if len(raw) == 32 else None
    if point is None or equal(multiply(8, point), IDENTITY):
        raise Reject("key.invalid")
    return raw


def check_signature(key, message, signature):
    a, r = decompress(key), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= ORDER or equal(multiply(8, r), IDENTITY):
        raise Reject("signature.invalid")
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    if not equal(multiply(s, BASE), add(r, multiply(k, a))):
        raise Reject("signature.invalid")


# --- protobuf wire format


def varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("varint")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at, byte == 0 and shift > 7


def fields(data):
    """(number, wire type, value, minimal) of each field in order."""
    at = 0
    while at < len(data):
        key, at, padded = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at, more = varint(data, at)
            yield number, kind, value, not (padded or more or value >> 64)
        elif kind == 2:
            size, at, more = varint(data, at)
            if at + size > len(data):
                raise ValueError("length")
            yield number, kind, data[at : at + size], not (padded or more)
            at += size
        else:
            raise ValueError("wire type")


def message(data, schema, strict=False, reason="payload.malformed"):
    """Decodes by `schema` {number: (name, kind)}; kinds: int, bytes, str, or a schema; a list repeats.

    Strict: known fields in ascending order, minimal, no defaults: the one encoding there is.
    """
    out = {name: [] if isinstance(kind, list) else default(kind) for name, kind in schema.values()}
    last = 0
    try:
        for number, wire, value, minimal in fields(data):
            if number not in schema:
                if strict:
                    raise ValueError("unknown field")
                continue
            name, kind = schema[number]
            repeated = isinstance(kind, list)
            inner = kind[0] if repeated else kind
            if wire != (0 if inner == "int" else 2):
                raise ValueError("wire type")
            if strict and (not minimal or number < last or (number == last and not repeated)):
                raise ValueError("order")
            last = number
            if inner == "str":
                value = value.decode("utf-8")
            elif isinstance(inner, dict):
                value = message(value, inner, strict, reason)
            if repeated:
                out[name].append(value)
            else:
                if strict and value in (0, b"", "") and not isinstance(inner, dict):
                    raise ValueError("default")
                out[name] = value
    except (ValueError, UnicodeDecodeError) as error:
        raise Reject(reason) from error
    return out


def default(kind):
    return {"int": 0, "bytes": b"", "str": ""}.get(kind) if isinstance(kind, str) else None


SIGNATURE = {1: ("key_id", "bytes"), 2: ("sig", "bytes")}
ENVELOPE = {1: ("payload_type", "str"), 2: ("payload", "bytes"), 3: ("signatures", [SIGNATURE])}
AUDIENCE = {1: ("kind", "int"), 2: ("value", "bytes")}
HEADER = {
    1: ("installation", "bytes"), 2: ("cluster", "bytes"), 3: ("audience", AUDIENCE), 4: ("issuer", "bytes"),
    5: ("incarnation", "int"), 6: ("sequence", "int"), 7: ("issued_at", "int"), 8: ("not_before", "int"),
    9: ("expires_at", "int"), 10: ("critical", ["str"]),
}
DOCUMENTS = {
    "activation-request": (16384, {
        1: ("header", HEADER), 2: ("key", "bytes"), 3: ("tls_ca", "bytes"), 4: ("nonce", "bytes"),
        5: ("urls", ["str"]), 6: ("dev", "int"),
    }),
    "activation-manifest": (16384, {
        1: ("header", HEADER), 2: ("authority", "bytes"), 3: ("tls_ca", "bytes"), 4: ("nonce", "bytes"),
        5: ("owner_name", "str"), 6: ("owner_key", "bytes"),
    }),
    "authority-record": (4096, {
        1: ("header", HEADER), 2: ("kind", "int"), 3: ("key", "bytes"), 4: ("previous", "bytes"),
    }),
    "role-grant": (16384, {
        1: ("header", HEADER), 2: ("key", "bytes"), 3: ("role", "str"), 4: ("revoked", "int"), 5: ("name", "str"),
        6: ("revokes", "bytes"),
    }),
    "role-grant-set": (262144, {1: ("header", HEADER), 2: ("members", ["bytes"]), 3: ("previous", "bytes")}),
    "revocation": (4096, {
        1: ("header", HEADER), 2: ("kind", "int"), 3: ("node", "bytes"), 4: ("key", "bytes"), 5: ("generation", "int"),
        6: ("successor", "bytes"), 7: ("reason", "str"), 8: ("previous", "bytes"),
    }),
    "join-token": (8192, {
        1: ("header", HEADER), 2: ("token_id", "bytes"), 3: ("urls", ["str"]), 4: ("pin", "bytes"),
        5: ("authority", "bytes"), 6: ("roles", ["str"]), 7: ("organization", "bytes"), 8: ("tags", ["str"]),
        9: ("profile", "str"), 10: ("approval", "str"), 11: ("ephemeral", "int"), 12: ("max_uses", "int"),
        13: ("secret_hash", "bytes"), 14: ("cluster_name", "str"),
    }),
    "bootstrap-contract": (262144, {
        1: ("header", HEADER), 2: ("request", "bytes"), 3: ("token", "bytes"), 4: ("nonce", "bytes"),
        5: ("node", "bytes"), 6: ("node_key", "bytes"), 7: ("wireguard", "bytes"), 15: ("pin", "bytes"),
        16: ("manifest", "bytes"), 17: ("records", ["bytes"]),
    }),
    "break-glass": (32768, {
        1: ("header", HEADER), 2: ("nonce", "bytes"), 3: ("reason", "str"),
        10: ("extend", {1: ("until", "int")}),
        11: ("peer", {1: ("peer", {
            1: ("node", "bytes"), 2: ("name", "str"), 3: ("node_key", "bytes"), 4: ("wireguard", "bytes"),
            5: ("ipv4", "str"), 6: ("ipv6", "str"), 9: ("link", ["str"]), 10: ("tunnel", ["str"]),
        })}),
    }),
    "cluster-head": (4096, {
        1: ("header", HEADER), 2: ("incarnation", "int"), 3: ("version", "int"), 4: ("refresh", "int"),
        5: ("tree_size", "int"), 6: ("root", "bytes"), 7: ("previous", "bytes"), 8: ("fresh_until", "int"),
    }),
    "log-key": (4096, {
        1: ("header", HEADER), 2: ("key", "bytes"), 3: ("previous", "bytes"), 4: ("first_size", "int"),
        5: ("first_root", "bytes"), 6: ("reason", "str"),
    }),
    "path-install": (1024, {
        1: ("header", HEADER), 2: ("path_id", "bytes"), 3: ("lane", "int"), 4: ("generation", "int"),
        5: ("source", "bytes"), 6: ("destination", "bytes"), 7: ("organization", "bytes"), 8: ("position", "int"),
        9: ("length", "int"), 10: ("previous", "bytes"), 11: ("in_label", "int"), 12: ("next", "bytes"),
        13: ("out_label", "int"), 14: ("back_in_label", "int"), 15: ("back_out_label", "int"),
        16: ("rate_kbit", "int"), 17: ("lifetime_s", "int"), 18: ("kind", "int"),
    }),
}
CREATE, ROTATE, RECOVERY = 1, 2, 3
ANY, INSTALLATION, CLUSTER, NODE, KEY = 1, 2, 3, 4, 5
TOLERANCE = 60_000


def payload_type(name):
    return f"application/vnd.rap.{name}.v1+protobuf"


def signing_bytes(kind, payload):
    return b"DSSEv1 %d %s %d " % (len(kind), kind.encode(), len(payload)) + payload


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# --- documents


def verify(data, name, keys, scope, cosigner=None):
    """keys: {key id: (key, names it may sign, active)}; scope: installation, cluster, audience, now, features."""
    cap, schema = DOCUMENTS[name]
    if len(data) > cap:
        raise Reject("envelope.too_large")
    envelope = message(data, ENVELOPE, strict=True, reason="envelope.malformed")
    signatures = envelope["signatures"]
    if not 1 <= len(signatures) <= 8:
        raise Reject("signature.missing")
    if any(len(one["key_id"]) != 32 or len(one["sig"]) != 64 for one in signatures):
        raise Reject("envelope.malformed")
    if envelope["payload_type"] != payload_type(name):
        raise Reject("envelope.type")
    if keys is None:  # self-named
        key = public_key(message(envelope["payload"], schema)[{"join-token": "authority"}.get(name, "key")])
        keys = {sha256(key): (key, {name}, True)}
    signed = signing_bytes(envelope["payload_type"], envelope["payload"])

    def find(key_id):
        if key_id not in keys:
            raise Reject("key.unknown")
        key, purposes, active = keys[key_id]
        if name not in purposes:
            raise Reject("key.purpose")
        if not active:
            raise Reject("key.state")
        return key

    first = signatures[0]["key_id"]
    check_signature(find(first), signed, signatures[0]["sig"])
    document = message(envelope["payload"], schema)
    second = cosigner(document) if cosigner else None
    seen = [first]
    for one in signatures[1:]:
        key = second if second and sha256(second) == one["key_id"] else find(one["key_id"])
        check_signature(key, signed, one["sig"])
        if one["key_id"] in seen:
            raise Reject("signature.missing")
        seen.append(one["key_id"])
    if second is None and len(seen) != 1:
        raise Reject("signature.missing")
    if second is not None and sha256(second) not in seen[1:]:
        raise Reject("signature.missing")
    check_header(document["header"], first, scope)
    document["digest"] = sha256(signed)
    return document


def check_header(header, issuer, scope):
    if header is None or len(header["installation"]) != 16 or len(header["cluster"]) != 16:
        raise Reject("header.malformed")
    audience = header["audience"] or {"kind": 0, "value": b""}
    length = {ANY: 0, INSTALLATION: 16, CLUSTER: 16, NODE: 16, KEY: 32}.get(audience["kind"])
    if length is None or len(audience["value"]) != length or len(header["issuer"]) != 32:
        raise Reject("header.malformed")
    if header["issuer"] != issuer:
        raise Reject("header.issuer")
    for name in ("installation", "cluster"):
        if scope.get(name) is not None and scope[name] != header[name]:
            raise Reject(f"header.{name}")
    among = scope.get("audiences")
    if among is not None and (audience["kind"], audience["value"]) not in among:
        raise Reject("header.audience")
    wanted = scope.get("audience")
    if wanted is not None and wanted != (audience["kind"], audience["value"]):
        raise Reject("header.audience")
    issued, expires, now = header["issued_at"], header["expires_at"], scope.get("now")
    longest = 10 * 366 * DAY
    senseless = expires and (expires <= issued or expires > issued + longest or header["not_before"] >= expires)
    if issued <= 0 or header["not_before"] < 0 or senseless:
        raise Reject("header.malformed")
    if now is not None:
        if issued > now + TOLERANCE:
            raise Reject("clock.skew")
        if header["not_before"] > now + TOLERANCE:
            raise Reject("header.not_yet_valid")
        if expires and expires <= now:
            raise Reject("header.expired")
    for feature in header["critical"]:
        if feature not in scope["features"]:
            raise Reject("authority.dev_refused" if feature == "dev" else "header.critical")


def one_key(key, name):
    return {sha256(key): (key, {name}, True)}


def activation(data, known, scope):
    manifest = verify(data, "activation-manifest", one_key(known["product_root"], "activation-manifest"), scope)
    public_key(manifest["authority"])
    if len(manifest["tls_ca"]) != 32 or len(manifest["nonce"]) != 32:
        raise Reject("payload.malformed")
    public_key(manifest["owner_key"])
    return manifest


def chain(records, authority, installation, cluster, features):
    if not 1 <= len(records) <= 1024:
        raise Reject("chain.broken")
    scope = {"installation": installation, "cluster": cluster, "audience": (CLUSTER, cluster), "features": features}
    last = active = None
    ever = []
    for data in records:
        keys = one_key(authority, "authority-record")
        if active:
            keys.update(one_key(active, "authority-record"))
        record = verify(data, "authority-record", keys, scope, lambda record: public_key(record["key"]))
        header, kind = record["header"], record["kind"]
        if last is None:
            if kind != CREATE or header["sequence"] != 1 or record["previous"]:
                raise Reject("chain.broken")
            signer = authority
        else:
            if header["sequence"] != last["header"]["sequence"] + 1 or record["previous"] != last["digest"]:
                raise Reject("chain.broken")
            if header["incarnation"] <= last["header"]["incarnation"]:
                raise Reject("chain.broken")
            if record["key"] in ever or record["key"] == authority:
                raise Reject("chain.broken")
            signer = {ROTATE: active, RECOVERY: authority}.get(kind)
        if signer is None or header["issuer"] != sha256(signer):
            raise Reject("chain.broken")
        last, active = record, record["key"]
        ever.append(active)
    return ever, last["header"]["incarnation"]


def role_grant(data, known, scope):
    grant = verify(data, "role-grant", one_key(known["installation_authority"], "role-grant"), scope)
    header = grant["header"]
    good = header["sequence"] and 0 < len(grant["name"].encode()) <= 256
    good = good and not any(unicodedata.category(one) == "Cc" for one in grant["name"])
    good = good and grant["role"] in ("platform_owner", "platform_admin", "recovery")
    if grant["revoked"]:
        good = good and len(grant["revokes"]) == 32 and not header["expires_at"]
    else:
        good = good and not grant["revokes"]
    if not good:
        raise Reject("payload.malformed")
    public_key(grant["key"])
    return grant


def role_grant_set(data, known, scope):
    keys = one_key(known["installation_authority"], "role-grant-set")
    grant_set = verify(data, "role-grant-set", keys, scope)
    header, members, previous = grant_set["header"], grant_set["members"], grant_set["previous"]
    good = header["sequence"] and len(previous) == (0 if header["sequence"] == 1 else 32)
    good = good and header["expires_at"] and header["expires_at"] - header["issued_at"] <= 24 * 3600 * 1000
    good = good and 1 <= len(members) <= 4096 and all(len(one) == 32 for one in members)
    if not good or any(a >= b for a, b in zip(members, members[1:])):
        raise Reject("payload.malformed")
    return grant_set


def role_grants(data, records, known, scope):
    """The set and the documents beside it: those that it names are there, and no others but those taken back."""
    scope = dict(scope, now=None)
    grant_set = role_grant_set(data, known, scope)
    present, strangers = {}, False
    for record in records:
        try:
            grant = role_grant(record, known, scope)
            present[grant["digest"]] = grant
        except Reject:
            strangers = True
    if any(one not in present for one in grant_set["members"]):
        raise Reject("chain.broken")
    named = [present[one] for one in grant_set["members"]]
    if any(one["header"]["sequence"] > grant_set["header"]["sequence"] for one in named):
        raise Reject("chain.broken")
    taken_back = {one["revokes"] for one in named if one["revoked"]}
    if taken_back & set(grant_set["members"]):
        raise Reject("chain.broken")
    if strangers or set(present) - set(grant_set["members"]) - taken_back:
        raise Reject("row.tampered")


BANNED, EVICTED, LEFT, ABSENT, KEY_ROTATED, READMITTED = range(1, 7)


def revocations(records, known, features):
    authorities = [(known["first_authority"], 1), (known["cluster_authority"], 2)]
    keys = {sha256(key): (key, {"revocation"}, True) for key, _ in authorities}
    scope = {
        "installation": known["installation_id"], "cluster": known["cluster_id"],
        "audience": (CLUSTER, known["cluster_id"]), "features": features,
    }
    signers = [(sha256(key), incarnation) for key, incarnation in authorities]
    entries, barred, newest, previous = {}, set(), 0, b""
    for sequence, data in enumerate(records, 1):
        record = verify(data, "revocation", keys, scope)
        header, signer = record["header"], (record["header"]["issuer"], record["header"]["incarnation"])
        if header["sequence"] != sequence or record["previous"] != previous:
            raise Reject("chain.broken")
        if signer not in signers or signers.index(signer) < newest:
            raise Reject("chain.broken")
        newest, previous = signers.index(signer), record["digest"]
        revocation(record, entries, barred)


def revocation(record, entries, barred):
    kind, node, key, generation = (record[name] for name in ("kind", "node", "key", "generation"))
    successor = record["successor"]
    good = (
        BANNED <= kind <= READMITTED and len(node) == 16 and len(key) == 32 and 0 < generation < 1 << 63
        and len(successor) == (32 if kind in (KEY_ROTATED, READMITTED) else 0)
        and len(record["reason"].encode()) <= 256 and not record["header"]["expires_at"]
    )
    if not good:
        raise Reject("payload.malformed")
    # (revoked generation, its key, key of the next generation or None, last kind)
    revoked, old, present, last = entries.get(node, (0, None, key, None))
    gone = present is None
    fits = (revoked, old) == (generation, key) if gone else (revoked + 1, present) == (generation, key)
    allowed = {
        BANNED: last != BANNED, KEY_ROTATED: not gone and successor != key, READMITTED: gone and last != BANNED,
    }.get(kind, not gone)
    if not fits or not allowed or successor in barred:
        raise Reject("chain.broken")
    if kind in (BANNED, KEY_ROTATED):
        barred.add(key)
    entries[node] = (generation, key, successor or None, kind)


def join_token(text, known, scope):
    text = text.strip()
    parts = text.split(b".")
    if len(text) > 16384 or len(parts) != 3 or parts[0] != b"rapj1":
        raise Reject("token.malformed")
    try:
        envelope, secret = (base64url(part) for part in parts[1:])
    except ValueError as error:
        raise Reject("token.malformed") from error
    if len(secret) != 32:
        raise Reject("token.malformed")
    try:
        token = verify(envelope, "join-token", None, scope)
    except Reject as reject:
        raise Reject("token.expired" if str(reject) == "header.expired" else str(reject)) from reject
    if not token["header"]["expires_at"]:
        raise Reject("header.malformed")
    if token["secret_hash"] != sha256(b"rap.join.secret.v1\0", secret):
        raise Reject("token.secret")


def base64url(part):
    data = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part:
        raise ValueError("not canonical")
    return data


def bootstrap(data, known, scope):
    scope = dict(scope, audience=(KEY, sha256(known["node_key"])))
    contract = verify(data, "bootstrap-contract", one_key(known["cluster_authority"], "bootstrap-contract"), scope)
    expected = {
        "request": known["request_id"], "token": known["token_id"], "nonce": known["nonce"],
        "node_key": known["node_key"], "wireguard": known["wireguard_key"],
    }
    if any(contract[name] != value for name, value in expected.items()):
        raise Reject("contract.mismatch")
    if contract["pin"] != known["server_trust_pin"]:
        raise Reject("pin.mismatch")
    envelope = message(contract["manifest"], ENVELOPE, strict=True, reason="envelope.malformed")
    manifest = message(envelope["payload"], DOCUMENTS["activation-manifest"][1])
    if manifest["header"]["installation"] != known["installation_id"] or manifest["tls_ca"] != contract["pin"]:
        raise Reject("activation.mismatch")
    authority = public_key(manifest["authority"])
    ever, _ = chain(
        contract["records"], authority, known["installation_id"], known["cluster_id"], scope["features"]
    )
    if known["cluster_authority"] not in ever:
        raise Reject("authority.mismatch")


BREAK_GLASS_FILE = {1: ("grant", "bytes"), 2: ("root_keys", ["bytes"])}
DAY = 24 * 3600 * 1000


def break_glass(text, manifest, node, known, scope):
    text = text.strip()
    if len(text) > 65536 or not text.startswith(b"rapb1."):
        raise Reject("break_glass.malformed")
    try:
        data = base64url(text[len(b"rapb1."):])
    except ValueError as error:
        raise Reject("break_glass.malformed") from error
    file = message(data, BREAK_GLASS_FILE, strict=True, reason="break_glass.malformed")
    roots = [public_key(key) for key in file["root_keys"]]
    if len(roots) > 8:
        raise Reject("break_glass.malformed")
    if len(roots) > 1:
        # The pinned manifest of the golden set has one signature: more keys than that cannot all have signed.
        verify(manifest, "activation-manifest", one_key(roots[0], "activation-manifest"), dict(
            installation=scope["installation"], cluster=bytes(16), features=scope["features"]))
        raise Reject("signature.missing")
    if roots:
        verify(manifest, "activation-manifest", one_key(roots[0], "activation-manifest"), dict(
            installation=scope["installation"], cluster=bytes(16), features=scope["features"]))
    signer = roots[0] if roots else known["cluster_authority"]
    cluster = scope["cluster"]
    # Acceptable for the cluster or for this node; anything else is another audience.
    free = {name: value for name, value in scope.items() if name != "audience"}
    free["audiences"] = [(CLUSTER, cluster), (NODE, node)]
    grant = verify(file["grant"], "break-glass", one_key(signer, "break-glass"), free)
    header = grant["header"]
    issued, expires = header["issued_at"], header["expires_at"]
    if not expires:
        raise Reject("header.malformed")
    if expires > issued + DAY:
        raise Reject("break_glass.lifetime")
    reason = grant["reason"]
    if len(grant["nonce"]) != 32 or not 1 <= len(reason.encode()) <= 256 or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in reason):
        raise Reject("payload.malformed")
    if grant["extend"] is not None:
        if not issued < grant["extend"]["until"] <= expires:
            raise Reject("break_glass.lifetime")
    elif grant["peer"] is None or grant["peer"]["peer"] is None:
        raise Reject("payload.malformed")
    else:
        peer = grant["peer"]["peer"]
        try:
            ipaddress.IPv4Address(peer["ipv4"]), ipaddress.IPv6Address(peer["ipv6"])
        except ValueError as error:
            raise Reject("payload.malformed") from error
        if len(peer["node"]) != 16 or len(peer["node_key"]) != 32 or len(peer["wireguard"]) != 32:
            raise Reject("payload.malformed")


def path_install(data, leaf, hop, scope):
    """The leaf stands for a certificate: what became of its chain, the node, the key."""
    if len(leaf) > 2048:
        raise Reject("certificate.invalid")
    if len(data) > DOCUMENTS["path-install"][0]:
        raise Reject("envelope.too_large")
    if len(leaf) != 49 or leaf[0] > 1:
        raise Reject("certificate.invalid")
    if leaf[0] == 1:
        raise Reject("node.revoked")
    scope = dict(scope, now=None, audience=(NODE, hop))
    install = verify(data, "path-install", one_key(leaf[17:], "path-install"), scope)
    if install["source"] != leaf[1:17]:
        raise Reject("certificate.identity")
    ids = [install["source"], install["destination"], install["previous"], install["path_id"]]
    next_labels = [install["out_label"] != 0, install["back_in_label"] != 0]
    if (
        install["header"]["expires_at"] or any(len(one) != 16 for one in ids)
        or len(install["organization"]) not in (0, 16) or len(install["next"]) not in (0, 16)
        or next_labels != [bool(install["next"])] * 2 or 0 in (install["in_label"], install["back_out_label"])
        or install["lane"] not in (1, 2, 3)
        or not 1 <= install["position"] <= 4 or not 1 <= install["length"] <= 4
    ):
        raise Reject("payload.malformed")
    if not 10 <= install["lifetime_s"] <= 600:
        raise Reject("path.lifetime")
    if install["kind"] != 1:
        raise Reject("path.kind")


def head_facts(head):
    header = head["header"]
    if (header["audience"]["kind"], header["audience"]["value"]) != (CLUSTER, header["cluster"]):
        raise Reject("header.audience")
    size = head["tree_size"]
    good = (
        header["sequence"] == head["version"] and header["incarnation"] == head["incarnation"]
        and not header["expires_at"] and 0 < size <= 1 << 24 and size & (size - 1) == 0
        and head["fresh_until"] > header["issued_at"] and len(head["root"]) == 32
        and len(head["previous"]) in (0, 32)
    )
    if not good:
        raise Reject("payload.malformed")
    return head


def cluster_head(data, known, scope):
    keys = one_key(known["cluster_authority"], "cluster-head")
    keys.update(one_key(known["other_purpose_key"], "join-token"))
    revoked = known["revoked_key"]
    keys[sha256(revoked)] = (revoked, {"cluster-head"}, False)
    return head_facts(verify(data, "cluster-head", keys, scope))


# --- exports

LEAF = {1: ("node", "bytes"), 2: ("generation", "int"), 3: ("salt", "bytes")}
PROOF = {1: ("position", "int"), 2: ("hashes", ["bytes"])}
SLOT = {1: ("key", "str"), 2: ("chunk", "bytes")}
EXPORT = {
    1: ("manifest", "bytes"), 2: ("records", ["bytes"]), 3: ("head", "bytes"), 4: ("leaf", LEAF),
    5: ("proof", PROOF), 6: ("slots", [SLOT]), 7: ("chunks", ["bytes"]),
}
TRUST = {
    1: ("ca", "bytes"), 2: ("revoked", [{1: ("node", "bytes"), 3: ("generation", "int")}]),
    4: ("revocations", "int"), 5: ("revocation_digest", "bytes"),
}
POLICY = {1: ("degraded_for", "int"), 2: ("leaf_lifetime", "int"), 5: ("mtu", "int")}
PEER = {
    1: ("node", "bytes"), 3: ("node_key", "bytes"), 4: ("wireguard", "bytes"), 5: ("ipv4", "str"),
    6: ("ipv6", "str"), 12: ("generation", "int"),
}
ASSIGNMENT = {
    1: ("node", "bytes"), 6: ("ipv4", "str"), 7: ("ipv6", "str"), 8: ("wireguard", "bytes"), 9: ("node_key", "bytes"),
}
CHUNK = {1: ("slot", "str"), 10: ("trust", TRUST), 11: ("policy", POLICY), 12: ("peer", PEER), 13: ("assignment", ASSIGNMENT)}


def manifest_root(slots):
    buckets = [[] for _ in range(256)]
    for slot in slots:
        key = slot["key"].encode()
        buckets[sha256(key)[0]].append(len(key).to_bytes(4, "big") + key + slot["chunk"])
    return sha256(b"rap.manifest.v1\0", *(sha256(b"rap.bucket.v1\0", *bucket) for bucket in buckets))


def root_from_proof(leaf, proof, size):
    position, hashes = proof["position"], proof["hashes"]
    if any(len(one) != 32 for one in hashes) or position >= size or 1 << len(hashes) != size:
        raise Reject("snapshot.proof")
    for sibling in hashes:
        leaf = sha256(b"\x01", sibling, leaf) if position & 1 else sha256(b"\x01", leaf, sibling)
        position >>= 1
    return leaf


def export(data, known, features):
    bundle = message(data, EXPORT, strict=True, reason="snapshot.malformed")
    manifest = activation(bundle["manifest"], known, {"cluster": bytes(16), "features": features})
    installation = manifest["header"]["installation"]
    if not bundle["records"]:
        raise Reject("snapshot.malformed")
    first = message(bundle["records"][0], ENVELOPE, reason="snapshot.malformed")
    first = message(first["payload"], DOCUMENTS["authority-record"][1], reason="snapshot.malformed")
    cluster = first["header"]["cluster"]
    ever, incarnation = chain(bundle["records"], manifest["authority"], installation, cluster, features)
    active = ever[-1]
    scope = {"installation": installation, "cluster": cluster, "features": features}
    head = head_facts(verify(bundle["head"], "cluster-head", one_key(active, "cluster-head"), scope))
    if head["incarnation"] < incarnation:
        raise Reject("chain.broken")
    leaf, proof, slots = bundle["leaf"], bundle["proof"], bundle["slots"]
    if leaf is None or proof is None:
        raise Reject("snapshot.malformed")
    if any(a["key"].encode() >= b["key"].encode() for a, b in zip(slots, slots[1:])):
        raise Reject("snapshot.manifest")
    if any(len(slot["chunk"]) != 32 or not slot["key"] for slot in slots):
        raise Reject("snapshot.manifest")
    chunks = [(sha256(b"rap.chunk.v1\0", chunk), chunk) for chunk in bundle["chunks"]]
    if any(a[0] >= b[0] for a, b in zip(chunks, chunks[1:])):
        raise Reject("snapshot.malformed")
    if len(leaf["node"]) != 16 or len(leaf["salt"]) != 32:
        raise Reject("snapshot.malformed")
    hashed = sha256(
        b"\x00", b"rap.leaf.v1\0", cluster, leaf["node"], leaf["generation"].to_bytes(8, "big"),
        manifest_root(slots), leaf["salt"],
    )
    if root_from_proof(hashed, proof, head["tree_size"]) != head["root"]:
        raise Reject("snapshot.proof")
    check_contents(slots, dict(chunks), leaf["node"])
    if {slot["chunk"] for slot in slots} != {key for key, _ in chunks}:
        raise Reject("snapshot.malformed")


def check_contents(slots, chunks, node):
    found, peers = {}, {}
    for slot in slots:
        if slot["chunk"] not in chunks:
            raise Reject("snapshot.chunk_missing")
    for slot in slots:
        key = slot["key"]
        chunk = message(chunks[slot["chunk"]], CHUNK, reason="snapshot.chunk_invalid")
        kinds = [kind for kind in ("trust", "policy", "peer", "assignment") if chunk[kind] is not None]
        if chunk["slot"] != key or (not kinds and (key in ("trust", "policy", "assignment") or key.startswith("peer/"))):
            raise Reject("snapshot.chunk_invalid")
        for kind in kinds:
            body = chunk[kind]
            check_chunk(kind, key, body)
            if kind == "peer":
                peers[body["node"]] = body
            else:
                found[kind] = body
    if set(found) != {"trust", "policy", "assignment"}:
        raise Reject("snapshot.semantic")
    own = found["assignment"]
    if own["node"] != node:
        raise Reject("snapshot.scope")
    if node in peers:
        raise Reject("snapshot.semantic")
    addresses = [own["ipv4"].split("/")[0], own["ipv6"].split("/")[0]]
    addresses += [peer[family] for peer in peers.values() for family in ("ipv4", "ipv6")]
    keys = [own["wireguard"]] + [peer["wireguard"] for peer in peers.values() if peer["wireguard"]]
    if len(set(addresses)) != len(addresses) or len(set(keys)) != len(keys):
        raise Reject("snapshot.semantic")
    for revoked in found["trust"]["revoked"]:
        peer = peers.get(revoked["node"])
        if peer and revoked["generation"] >= peer["generation"]:
            raise Reject("snapshot.semantic")


def check_chunk(kind, slot, body):
    try:
        if kind == "peer":
            good = slot == f"peer/{uuid.UUID(bytes=body['node'])}" and len(body["node_key"]) == 32
            good = good and len(body["wireguard"]) in (0, 32)
            ipaddress.IPv4Address(body["ipv4"]), ipaddress.IPv6Address(body["ipv6"])
        elif kind == "assignment":
            good = slot == kind and len(body["node"]) == 16 and len(body["node_key"]) == len(body["wireguard"]) == 32
            ipaddress.ip_interface(body["ipv4"]), ipaddress.ip_interface(body["ipv6"])
        elif kind == "policy":
            good = slot == kind and 576 <= body["mtu"] <= 9000
            good = good and body["leaf_lifetime"] and body["degraded_for"] <= body["leaf_lifetime"] // 2
        else:
            nodes = [revoked["node"] for revoked in body["revoked"]]
            good = slot == kind and body["ca"] and nodes == sorted(set(nodes))
            good = good and len(body["revocation_digest"]) == (32 if body["revocations"] else 0)
    except ValueError:
        good = False
    if not good:
        raise Reject("snapshot.chunk_invalid")


# --- the audit log

AUDIT_TAG = b"rap.audit.v1\0"
AUDIT_EXPORT = {1: ("manifest", "bytes"), 2: ("keys", ["bytes"]), 3: ("checkpoints", ["bytes"]), 4: ("entries", ["bytes"])}
AUDIT_FIELDS = ((0, 16), (0, 16), str, str, str, str, (0, 32), (0, 32), str, (16,))


def audit_entry(data):
    rest = data[len(AUDIT_TAG) + 16 :]
    if not data.startswith(AUDIT_TAG) or len(data) < len(AUDIT_TAG) + 16 or len(data) > 32768:
        raise Reject("audit.malformed")
    for kind in AUDIT_FIELDS:
        size = int.from_bytes(rest[:4], "big")
        field, after = rest[4 : 4 + size], rest[4 + size :]
        if len(rest) < 4 + size:
            raise Reject("audit.malformed")
        if kind is str:
            try:
                field.decode("utf-8")
            except UnicodeDecodeError as error:
                raise Reject("audit.malformed") from error
        elif size not in kind:
            raise Reject("audit.malformed")
        rest = after
    if rest:
        raise Reject("audit.malformed")


def tree_root(leaves):
    """RFC 6962, 2.1."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01", tree_root(leaves[:split]), tree_root(leaves[split:]))


def inclusion_root(leaf, index, size, path):
    """The root that a path leads to, by the recursion that makes paths."""
    if size == 1:
        if path:
            raise Reject("audit.proof")
        return leaf
    if not path:
        raise Reject("audit.proof")
    split = 1 << (size - 1).bit_length() - 1
    if index < split:
        return sha256(b"\x01", inclusion_root(leaf, index, split, path[:-1]), path[-1])
    return sha256(b"\x01", path[-1], inclusion_root(leaf, index - split, size - split, path[:-1]))


def inclusion(entry, index, size, path, root):
    if index >= size or inclusion_root(sha256(b"\0", entry), index, size, path) != root:
        raise Reject("audit.proof")


def consistency_roots(old, new, proof, known):
    """(older root, newer root), by the recursion that makes proofs; `known` stands for the older root."""
    if old == new:
        if known is not None:
            if proof:
                raise Reject("audit.proof")
            return known, known
        if len(proof) != 1:
            raise Reject("audit.proof")
        return proof[0], proof[0]
    if not proof:
        raise Reject("audit.proof")
    split = 1 << (new - 1).bit_length() - 1
    if old <= split:
        before, after = consistency_roots(old, split, proof[:-1], known)
        return before, sha256(b"\x01", after, proof[-1])
    before, after = consistency_roots(old - split, new - split, proof[:-1], None)
    return sha256(b"\x01", proof[-1], before), sha256(b"\x01", proof[-1], after)


def consistency(old, old_root, new, new_root, proof):
    if old > new or (old in (0, new) and proof):
        raise Reject("audit.proof")
    if old == new:
        if old_root != new_root:
            raise Reject("audit.inconsistent")
    elif old == 0:
        if old_root != sha256():
            raise Reject("audit.proof")
    elif consistency_roots(old, new, proof, old_root) != (old_root, new_root):
        raise Reject("audit.proof")


def log_keys(records, authority, installation, features):
    if not 1 <= len(records) <= 256:
        raise Reject("chain.broken")
    scope = {
        "installation": installation, "cluster": bytes(16), "audience": (INSTALLATION, installation),
        "features": features,
    }
    keys, last, used = one_key(authority, "log-key"), None, []
    for data in records:
        record = verify(data, "log-key", keys, scope, lambda record: public_key(record["key"]))
        if len(record["reason"].encode()) > 1024 or len(record["first_root"]) != 32:
            raise Reject("payload.malformed")
        sequence = last["header"]["sequence"] + 1 if last else 1
        if record["header"]["sequence"] != sequence or record["key"] in used:
            raise Reject("chain.broken")
        if record["previous"] != (last["digest"] if last else b""):
            raise Reject("chain.broken")
        used.append(record["key"])
        last = record
    return {"installation": installation, "generation": sequence, **last}


def base64_exact(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Reject("audit.malformed") from error
    if base64.b64encode(data) != text:
        raise Reject("audit.malformed")
    return data


def checkpoint(note, log):
    """(size, root) of a C2SP signed note by the newest key of the log."""
    body, blank, line = note.partition(b"\n\n")
    dash = "\u2014 ".encode()
    name, space, signature = line[len(dash) : -1].partition(b" ")
    if len(note) > 4096 or not blank or not space or not line.endswith(b"\n") or not line.startswith(dash):
        raise Reject("audit.malformed")
    signature = base64_exact(signature)
    if len(signature) != 68:
        raise Reject("audit.malformed")
    origin = f"rap.fabric/audit/{uuid.UUID(bytes=log['installation'])}/{log['generation']}".encode()
    if name != origin or signature[:4] != sha256(origin, b"\n\x01", log["key"])[:4]:
        raise Reject("audit.checkpoint")
    check_signature(log["key"], body + b"\n", signature[4:])
    lines = body.split(b"\n")
    if len(lines) != 3 or not lines[1].isdigit() or str(int(lines[1])).encode() != lines[1]:
        raise Reject("audit.malformed")
    if lines[0] != origin:
        raise Reject("audit.checkpoint")
    root = base64_exact(lines[2])
    if len(root) != 32:
        raise Reject("audit.malformed")
    return int(lines[1]), root


def audit_export(data, known, features):
    bundle = message(data, AUDIT_EXPORT, strict=True, reason="audit.malformed")
    manifest = activation(bundle["manifest"], known, {"cluster": bytes(16), "features": features})
    log = log_keys(bundle["keys"], manifest["authority"], manifest["header"]["installation"], features)
    signed = [checkpoint(note, log) for note in bundle["checkpoints"]]
    sizes = [size for size, _ in signed]
    if not signed or sizes != sorted(set(sizes)) or sizes[-1] != len(bundle["entries"]):
        raise Reject("audit.malformed")
    for entry in bundle["entries"]:
        audit_entry(entry)
    leaves = [sha256(b"\0", entry) for entry in bundle["entries"]]
    for size, root in [*signed, (log["first_size"], log["first_root"])]:
        if size > len(leaves) or tree_root(leaves[:size]) != root:
            raise Reject("audit.proof")


def two_numbers(data):
    return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")


# --- vectors


def decide(vector):
    known = {
        name: uuid.UUID(value).bytes if name.endswith("_id") else bytes.fromhex(value)
        for name, value in vector["known"].items()
    }
    data, kind, features = bytes.fromhex(vector["input"]), vector["kind"], vector["features"]
    cluster = known["cluster_id"]
    scoped = {
        "installation": known["installation_id"], "cluster": cluster, "audience": (CLUSTER, cluster),
        "now": vector["now_ms"], "features": features,
    }
    platform = {
        "installation": known["installation_id"], "cluster": bytes(16), "now": vector["now_ms"], "features": features,
    }
    addressed = dict(platform, audience=(INSTALLATION, known["installation_id"]))
    records = [bytes.fromhex(record) for record in vector["records"]]
    checks = {
        "public-key": lambda: public_key(data),
        "activation-request": lambda: verify(data, "activation-request", None, platform),
        "activation-manifest": lambda: activation(data, known, platform),
        "authority-records": lambda: chain(
            records, known["installation_authority"], known["installation_id"], cluster, features
        ),
        "role-grant": lambda: role_grant(data, known, addressed),
        "role-grant-set": lambda: role_grant_set(data, known, addressed),
        "role-grants": lambda: role_grants(data, records, known, addressed),
        "revocations": lambda: revocations(records, known, features),
        "join-token": lambda: join_token(data, known, scoped),
        "bootstrap-contract": lambda: bootstrap(data, known, scoped),
        "cluster-head": lambda: cluster_head(data, known, scoped),
        "break-glass": lambda: break_glass(data, *records, known, scoped),
        "export": lambda: export(data, known, features),
        "path-install": lambda: path_install(data, *records, scoped),
        "audit-entry": lambda: audit_entry(data),
        "audit-inclusion": lambda: inclusion(data, *two_numbers(records[1]), records[2:], records[0]),
        "audit-consistency": lambda: consistency(
            two_numbers(data)[0], records[0], two_numbers(data)[1], records[1], records[2:]
        ),
        "log-key": lambda: keys(),
        "audit-checkpoint": lambda: checkpoint(data, keys()),
        "audit-export": lambda: audit_export(data, known, features),
    }

    def keys():
        return log_keys(records, known["installation_authority"], known["installation_id"], features)

    try:
        checks[kind]()
    except Reject as reject:
        return str(reject)
    return "ok"


def main():
    vectors = sorted(pathlib.Path(__file__).parent.glob("*.json"))
    wrong = 0
    for path in vectors:
        vector = json.loads(path.read_text())
        found = decide(vector)
        if found != vector["outcome"]:
            wrong += 1
            print(f"{vector['name']}: decided {found}, the vector says {vector['outcome']}")
    print(f"{len(vectors) - wrong} vectors agree, {wrong} disagree")
    return 0 if vectors and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
