"""Checks an exported audit log without us: one file, Python 3.9 or newer, nothing to install.

    python verify.py audit.zip --key PUBLIC-KEY [--anchors worker.log]

The public key comes from the operator by another way than the bundle (`python -m service audit key`). Take this file
from the published source rather than from the bundle you were given. What is checked is said in the bundle's README.
Exit code 0 when all is as signed, 1 when anything is not, each named; 2 when it is no bundle.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

LEAF, NODE = b"\0", b"\1"
MEMBER_BYTES = 56
"""Id (16), transaction number (8, big-endian), SHA-256 of the row (32)."""
P, Q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]  # X, Y, Z, T: extended coordinates (RFC 8032 section 5.1.4)


def check(bundle: zipfile.ZipFile, key: str, anchors: dict[int, str]) -> list[tuple[str, str]]:
    """(kind, what) for everything that is not as it was signed."""
    problems: list[tuple[str, str]] = []
    raw = bundle.read("manifest.json")
    manifest = json.loads(raw)
    signature = bytes.fromhex(bundle.read("manifest.sig").decode())
    if not is_signed(bytes.fromhex(key), raw, signature):
        problems.append(("unsigned", "manifest.json is not signed with this key"))
    for name, digest in manifest["files"].items():
        if hashlib.sha256(bundle.read(name)).hexdigest() != digest:
            problems.append(("altered", f"{name} is not what was signed"))
    rows = (json.loads(line) for line in bundle.open("rows.jsonl"))
    seen = read = 0
    previous: str | None = None
    held: dict[str, Any] | None = next(rows, None)
    for line in bundle.open("segments.jsonl"):
        segment, mine = json.loads(line), []
        while held is not None and held["segment"] <= segment["number"]:
            mine.append(held)
            held = next(rows, None)
        read += len(mine)
        problems += check_rows(segment, mine) + check_segment(segment, previous, seen, anchors)
        seen, previous = segment["number"], segment["seal"]
    if seen < manifest["last_segment"]:
        problems.append(("truncated", f"segments end at {seen}, what was signed at {manifest['last_segment']}"))
    if read != manifest["rows"]:
        problems.append(("truncated" if read < manifest["rows"] else "inserted", f"{read} rows of {manifest['rows']}"))
    if held is not None:
        problems.append(("inserted", f"row {row_id(held)} belongs to no segment"))
    if (newest := max(anchors, default=0)) > manifest["last_segment"]:
        problems.append(("truncated", f"the anchors know segment {newest}"))
    return problems + [(kind, what) for kind, what in manifest["problems"]]


def check_segment(
    segment: dict[str, Any], previous: str | None, before: int, anchors: dict[int, str]
) -> list[tuple[str, str]]:
    name, number = f"segment {segment['number']}", segment["number"]
    found = []
    if number != before + 1:
        found.append(("missing segment", f"segments {before + 1} to {number - 1}"))
    elif previous is not None and segment["previous_seal"] != previous:
        found.append(("altered", f"{name} does not follow the one before it"))
    if "members" in segment and merkle_root(leaves(segment)).hex() != segment["root"]:
        found.append(("altered", f"{name}: its root does not fit its members"))
    if anchors.get(number, segment["seal"]) != segment["seal"]:
        found.append(("altered", f"{name}: its seal is not the one in the anchors"))
    return found


def check_rows(segment: dict[str, Any], rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Each row is what was hashed, the hash is under the root, and none is missing, doubled or moved."""
    found, last, expected = [], -1, set(segment["positions"])
    root, members = bytes.fromhex(segment["root"]), leaves(segment) if "members" in segment else []
    for row in rows:
        index, name = row["index"], f"row {row_id(row)}"
        digest = hashlib.sha256(row["row"].encode()).digest()
        leaf = bytes.fromhex(row_id(row).replace("-", "")) + row["txid"].to_bytes(8, "big", signed=True) + digest
        if row["segment"] != segment["number"] or index not in expected:
            found.append(("inserted", f"{name} stands where no row was sealed"))
        elif index < last:
            found.append(("reordered", f"{name} was moved"))
        elif members and members[index] != leaf:
            moved = any(leaf[:16] + leaf[24:] == one[:16] + one[24:] for one in members)
            found.append(("reordered", f"{name} was moved") if moved else ("changed", f"{name} is not what was sealed"))
        elif not members and climb(leaf, row["path"]) != root:
            found.append(("changed", f"{name} is not what was sealed"))
        expected.discard(index)
        last = max(last, index)
    missing = [("missing", f"row {known_id(segment, at)} of segment {segment['number']}") for at in sorted(expected)]
    return found + missing


def row_id(row: dict[str, Any]) -> str:
    return str(json.loads(row["row"])["id"])


def known_id(segment: dict[str, Any], index: int) -> str:
    return leaves(segment)[index][:16].hex() if "members" in segment else f"number {index}"


def leaves(segment: dict[str, Any]) -> list[bytes]:
    packed = bytes.fromhex(segment["members"])
    return [packed[at : at + MEMBER_BYTES] for at in range(0, len(packed), MEMBER_BYTES)]


def merkle_root(members: list[bytes]) -> bytes:
    """Merkle tree hash (RFC 6962 section 2.1)."""
    level = [hashlib.sha256(LEAF + member).digest() for member in members]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2])  # noqa: B905 - Python 3.9 has no strict=
        level = [hashlib.sha256(NODE + a + b).digest() for a, b in pairs] + level[len(level) // 2 * 2 :]
    return level[0] if level else b""


def climb(leaf: bytes, path: list[str]) -> bytes:
    """From a member to the root; each step says on which side the neighbour stands."""
    node = hashlib.sha256(LEAF + leaf).digest()
    for step in path:
        other = bytes.fromhex(step[1:])
        node = hashlib.sha256(NODE + (other + node if step[0] == "L" else node + other)).digest()
    return node


def read_anchors(lines: Iterator[str]) -> dict[int, str]:
    """From a log in which the worker's `audit.sealed` lines are."""
    events = [json.loads(line) for line in lines if '"audit.sealed"' in line]
    return {event["number"]: event["seal"] for event in events}


# Ed25519 (RFC 8032), verification only.


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    if len(key) != 32 or len(signature) != 64:
        return False
    public, r = decompress(key), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if public is None or r is None or s >= Q:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % Q
    left, right = multiply(s, BASE), add(r, multiply(k, public))
    return not any((left[n] * right[2] - right[n] * left[2]) % P for n in (0, 1))


def add(one: Point, two: Point) -> Point:
    a, b = (one[1] - one[0]) * (two[1] - two[0]) % P, (one[1] + one[0]) * (two[1] + two[0]) % P
    c, d = 2 * one[3] * two[3] * D % P, 2 * one[2] * two[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(times: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while times:
        if times & 1:
            result = add(result, point)
        point, times = add(point, point), times >> 1
    return result


def decompress(packed: bytes) -> Point | None:
    """The point that 32 bytes stand for, or None."""
    y = int.from_bytes(packed, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE: Point = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")) or (0, 0, 0, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check an exported audit log.")
    parser.add_argument("bundle")
    parser.add_argument("--key", required=True, help="the operator's public key, from another source than the bundle")
    parser.add_argument("--anchors", help="a log with the worker's audit.sealed lines, kept by another system")
    given = parser.parse_args()
    anchors = {}
    try:
        if given.anchors:
            with open(given.anchors) as lines:
                anchors = read_anchors(lines)
        with zipfile.ZipFile(given.bundle) as bundle:
            problems = check(bundle, given.key, anchors)
            manifest = json.loads(bundle.read("manifest.json"))
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        print(f"this is no bundle that can be read: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for kind, what in problems:
        print(f"{kind}: {what}")
    until = manifest["sealed_until"] or "the beginning"
    print(f"{manifest['rows']} rows, sealed until {until}: {len(problems) or 'no'} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
