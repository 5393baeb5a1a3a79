#!/usr/bin/env python3
"""Check the chains of an execution ledger by Python alone: without its package, or a database.

Have all rows written to a file, by a role that sees every one, and check it (Python 3.11):

    psql "$DATABASE_URL" -c "COPY (
      SELECT project_id, sequence, run.id, run.user_id,
        to_jsonb(run.created_at AT TIME ZONE 'UTC') #>> '{}' AS created_at,
        to_jsonb(run.recorded_at AT TIME ZONE 'UTC') #>> '{}' AS recorded_at,
        run.duration_ms, run.run_id, to_json(run.parent_run_id) AS parent_run_id, run.agent_id,
        run.status, trim_scale(run.total_cost_cents) AS total_cost_cents, run.intent, run.input,
        run.output, run.cost_json, run.execution_trace_json,
        to_json(run.error_message) AS error_message, to_json(encode(run.salt, 'hex')) AS salt,
        encode(run.payload_digests, 'hex') AS payload_digests, run.hash_version,
        encode(run.previous_hash, 'hex') AS previous_hash, encode(run.hash, 'hex') AS hash,
        erasure.number AS erasure, erasure.erased_by, erasure.reason,
        to_jsonb(erasure.erased_at AT TIME ZONE 'UTC') #>> '{}' AS erased_at,
        encode(erasure.hash, 'hex') AS erasure_hash
      FROM ledger.execution_ledger run
      FULL JOIN ledger.execution_erasures erasure USING (project_id, sequence)
      ORDER BY project_id, sequence
    ) TO STDOUT (FORMAT csv, HEADER, ENCODING 'UTF8')" > chain.csv &&
    python scripts/verify_chain.py chain.csv --checkpoint checkpoint.json

What is hashed is laid out in docs/proofs.md. The exit code is 0 where every row holds, and 1
where one does not, where one that the checkpoint saw is not there, and where there is none.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

YEAR_2000, MICROSECOND = datetime(2000, 1, 1), timedelta(microseconds=1)  # noqa: DTZ001 - in UTC
EXACT = json.JSONDecoder(parse_int=Decimal, parse_float=Decimal)
ERASED_COST = re.compile(r'\{"total": [0-9.]+, "breakdown": \{\}\}')
ERASED_TRACE = re.compile(r'\{"steps": \[\], "duration_ms": [0-9]+\}')


@dataclass
class Chain:
    """How far the chain of a project holds: to the row of this number and hash."""

    rows: int = 0
    hash: bytes = bytes(32)
    fault: str = ""
    erasures: list[tuple[int, int, bytes, bytes]] = field(default_factory=list)
    """The number of each, the row that it is of, its encoding and its hash."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """Its head as the checkpoint has it."""


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


def optional(cell: str) -> str | None:
    """What may be absent is JSON in the file, where an empty text is not the same as none."""
    return str(EXACT.raw_decode(cell)[0]) if cell else None


def number(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def uuid(cell: str) -> bytes:
    return int(cell.replace("-", ""), 16).to_bytes(16, "big")


def moment(cell: str) -> bytes:
    return number((datetime.fromisoformat(cell) - YEAR_2000) // MICROSECOND)


def sized(text: str | None) -> bytes:
    data = (text or "").encode()
    return (b"\xff\xff\xff\xff" if text is None else len(data).to_bytes(4, "big")) + data


def encoding(row: Mapping[str, str]) -> bytes:
    """A row as it is hashed."""
    if row["hash_version"] != "1":
        raise ValueError(f"hash version {row['hash_version']} is not known here")
    return b"".join(
        (
            b"\x01" + uuid(row["project_id"]) + number(int(row["sequence"])),
            uuid(row["id"]) + uuid(row["user_id"]),
            moment(row["created_at"]) + moment(row["recorded_at"]),
            number(int(row["duration_ms"])) + sized(row["run_id"]),
            sized(optional(row["parent_run_id"])) + sized(row["agent_id"]),
            sized(row["status"]) + sized(row["total_cost_cents"]),
            bytes.fromhex(row["payload_digests"]),
        )
    )


def fault_of(row: Mapping[str, str], before: Chain) -> str:
    """Why this is not the row that comes next; nothing where it is."""
    if row["sequence"] != str(before.rows + 1):
        return f"its sequence is {row['sequence']!a}"
    if bytes.fromhex(row["previous_hash"]) != before.hash:
        return "it was not appended after the row before it; one of both is another"
    hashed = digest(before.hash + digest(encoding(row)))
    if bytes.fromhex(row["hash"]) != hashed:
        return "what it says is not what was hashed"
    if before.rows + 1 == before.kept.get("sequence") and hashed.hex() != before.kept["hash"]:
        return "up to it, history is not what the checkpoint saw; it was written anew"
    total = EXACT.raw_decode(row["cost_json"])[0]["total"]
    duration = EXACT.raw_decode(row["execution_trace_json"])[0]["duration_ms"]
    if (total, duration) != (Decimal(row["total_cost_cents"]), Decimal(row["duration_ms"])):
        return "total_cost_cents or duration_ms is not what cost_json and the trace say"
    return fault_of_payloads(row)


def fault_of_payloads(row: Mapping[str, str]) -> str:
    """Why its payloads are not those of its digests, or not empty where they were erased."""
    if bool(row["erasure"]) == bool(row["salt"]):
        return "its payloads were erased without a record of it, or there is one of what is there"
    payloads = {
        "intent": row["intent"],
        "input": row["input"],
        "output": row["output"] or None,
        "cost_json": row["cost_json"],
        "execution_trace_json": row["execution_trace_json"],
        "error_message": optional(row["error_message"]),
    }
    recorded = bytes.fromhex(row["payload_digests"])
    digests = {name: recorded[32 * at : 32 * at + 32] for at, name in enumerate(payloads)}
    if not row["salt"]:
        # What there was none of has no digest, and none is left of it.
        is_empty = (
            (row["intent"], row["input"]) == ("[erased]", "{}")
            and payloads["output"] == ("{}" if any(digests["output"]) else None)
            and payloads["error_message"] == ("[erased]" if any(digests["error_message"]) else None)
            and ERASED_COST.fullmatch(row["cost_json"])
            and ERASED_TRACE.fullmatch(row["execution_trace_json"])
        )
        return "" if is_empty else "it is erased, and its payloads are not what erasing leaves"
    salt = bytes.fromhex(EXACT.raw_decode(row["salt"])[0])
    changed = [
        name
        for name, text in payloads.items()
        if digests[name] != (bytes(32) if text is None else digest(salt + text.encode()))
    ]
    return f"{' and '.join(changed)} is not what was recorded" if changed else ""


def erasure_of(row: Mapping[str, str]) -> tuple[int, int, bytes, bytes]:
    """The record of a row's erasure, as it is hashed."""
    place, sequence = int(row["erasure"]), int(row["sequence"])
    encoded = b"\x02" + uuid(row["project_id"]) + number(place) + number(sequence)
    encoded += moment(row["erased_at"]) + sized(row["erased_by"]) + sized(row["reason"])
    return place, sequence, encoded, bytes.fromhex(row["erasure_hash"])


def fault_of_erasures(chain: Chain) -> str:
    """Which record of an erasure is not the one that comes next; nothing where all are."""
    reached = bytes(32)
    for place, (found, sequence, encoded, hashed) in enumerate(sorted(chain.erasures), start=1):
        reached = digest(reached + digest(encoded))
        if (found, hashed) != (place, reached):
            return f"row {sequence}: the record of its erasure is not what was written"
        if place == chain.kept.get("erasures") and reached.hex() != chain.kept["erasures_hash"]:
            return f"row {sequence}: up to the record of its erasure, they were written anew"
    if len(chain.erasures) < chain.kept.get("erasures", 0):
        return "a record of an erasure was there at the checkpoint, and is gone"
    return ""


def extend(chain: Chain, row: Mapping[str, str]) -> None:
    """Go one row on, or keep why it does not hold."""
    try:
        fault = fault_of(row, chain)
        chain.erasures += [erasure_of(row)] if row["erasure"] and not fault else []
    except Exception as error:  # noqa: BLE001 - whatever somebody has put into a cell
        fault = f"a value in it is none that a run has: {error!a}"
    if fault:
        chain.fault = f"row {chain.rows + 1}, run {row['run_id']!a}: {fault}"
        return
    chain.rows, chain.hash = chain.rows + 1, bytes.fromhex(row["hash"])


def main() -> int:
    """Say of each project how many rows hold, and why the next one does not."""
    parser = argparse.ArgumentParser(description="Check the chains of an execution ledger.")
    parser.add_argument("file", type=Path, help="as the command above, in the source, writes it")
    parser.add_argument("--checkpoint", type=Path, help="whose signature you checked, or your own")
    given = parser.parse_args()
    chains: dict[str, Chain] = {}
    if given.checkpoint is not None:
        heads = json.loads(given.checkpoint.read_text(encoding="utf-8"))["heads"]
        chains = {head["project_id"]: Chain(kept=head) for head in heads}
    csv.field_size_limit(2**31 - 1)
    sys.setrecursionlimit(50_000)  # JSON nests deeper in PostgreSQL than Python goes by itself
    with given.file.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            chain = chains.setdefault(row["project_id"], Chain())
            if not chain.fault:
                extend(chain, row)
    for project, chain in sorted(chains.items()):
        held = f"{chain.rows} rows hold, {len(chain.erasures)} of them erased"
        print(f"{project}: {held}; {chain.hash.hex()}")
        if not chain.fault and chain.rows < chain.kept.get("sequence", 0):
            chain.fault = f"row {chain.rows + 1}: it was there at the checkpoint, and is gone"
        chain.fault = chain.fault or fault_of_erasures(chain)
        if chain.fault:
            print(f"  {chain.fault}")
    is_empty = not any(chain.rows or chain.fault for chain in chains.values())
    if is_empty:
        print("there is no row in the file")
    return int(is_empty or any(chain.fault for chain in chains.values()))


if __name__ == "__main__":
    sys.exit(main())
