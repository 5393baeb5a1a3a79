"""Checkpoints and proofs come back as they were written, and cannot be forged."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidArgument
from ledger.records import merkle
from ledger.records.checkpoint import (
    Checkpoint,
    Head,
    InclusionProof,
    Signature,
    signed_bytes,
)
from ledger.records.signing import (
    InvalidSignature,
    SigningUnavailable,
    new_key,
    require_signature,
    require_unaltered,
    sign,
)
from tests.builders import USER

NOON = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
PROJECT = UUID("00000000-0000-7000-8000-000000000002")
ZEROS = bytes(32)
DOCUMENT = (Path(__file__).parents[2] / "docs" / "proofs.md").read_text(encoding="utf-8")

hashes = st.binary(min_size=32, max_size=32)
sequences = st.integers(0, 2**63 - 1)
moments = st.datetimes(
    # With the time zones that hypothesis adds, of year 1 and 9999 some have no time in UTC.
    min_value=datetime(2, 1, 1),  # noqa: DTZ001
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.timezones(),
)
heads = st.builds(
    Head,
    project_id=st.uuids(),
    sequence=sequences,
    hash=hashes,
    erasures=sequences,
    erasures_hash=hashes,
)
signatures = st.builds(
    Signature,
    algorithm=st.just("ed25519"),
    public_key=hashes,
    value=st.binary(min_size=64, max_size=64),
)
checkpoints = st.builds(
    lambda heads, taken_at, signature: replace(Checkpoint.of(heads, taken_at), signature=signature),
    st.lists(heads, max_size=9, unique_by=lambda head: head.project_id),
    moments,
    st.none() | signatures,
)
proofs = st.builds(
    InclusionProof,
    run_id=st.text(st.characters(codec="utf-8"), min_size=1),
    project_id=st.uuids(),
    sequence=sequences,
    previous_hash=hashes,
    encoding=st.binary(max_size=400),
    later_digests=st.lists(hashes, max_size=4).map(tuple),
    head_sequence=sequences,
    erased=st.binary(min_size=40, max_size=40),
    path=st.lists(st.tuples(st.sampled_from(["left", "right"]), hashes), max_size=4).map(tuple),
    merkle_root=hashes,
)


def head(number: int = 1, sequence: int = 3) -> Head:
    return Head(
        project_id=UUID(int=number),
        sequence=sequence,
        hash=sha256(bytes(number)).digest(),
        erasures=2,
        erasures_hash=sha256(b"erasures" + bytes(number)).digest(),
    )


def text(value: str | None) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    return len(value.encode()).to_bytes(4, "big") + value.encode()


def encoding(sequence: int, run_id: str, project_id: UUID = PROJECT) -> bytes:
    """A row as layout 1 has it."""
    microseconds = (NOON - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    moment = microseconds.to_bytes(8, "big", signed=True)
    return b"".join(
        [
            b"\x01",
            project_id.bytes,
            sequence.to_bytes(8, "big"),
            UUID(int=sequence).bytes,
            USER.bytes,
            moment,
            moment,
            (1_250).to_bytes(8, "big"),
            *(text(value) for value in (run_id, None, "agent-7", "completed", "12.5")),
            *(sha256(payload).digest() for payload in (b"intent", b"input", b"output")),
            *(sha256(payload).digest() for payload in (b"cost", b"trace")),
            ZEROS,
        ]
    )


RUN_IDS = ("run-1", "run-12", "läuft ✓", "run-4", "run-5")


def proof_of(run_id: str, *, projects: int = 5) -> InclusionProof:
    """The proof of one of the five runs of a project, among other projects."""
    rows = [encoding(place, name) for place, name in enumerate(RUN_IDS, start=1)]
    chain = [ZEROS]
    for row in rows:
        chain.append(sha256(chain[-1] + sha256(row).digest()).digest())
    own = Head(
        project_id=PROJECT,
        sequence=len(rows),
        hash=chain[-1],
        erasures=258,
        erasures_hash=sha256(b"erasures").digest(),
    )
    others = [head(number) for number in range(1, projects)]
    checkpoint = Checkpoint.of([own, *others], NOON)
    leaves = [each.leaf for each in checkpoint.heads]
    place = RUN_IDS.index(run_id)
    return InclusionProof(
        run_id=run_id,
        project_id=PROJECT,
        sequence=place + 1,
        previous_hash=chain[place],
        encoding=rows[place],
        later_digests=tuple(sha256(row).digest() for row in rows[place + 1 :]),
        head_sequence=own.sequence,
        erased=own.erased,
        path=merkle.path(leaves, checkpoint.heads.index(own)),
        merkle_root=checkpoint.merkle_root,
    )


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)


def documented_block(named: str) -> str:
    """The one block of Python in docs/proofs.md in which this stands."""
    (found,) = (block for block in blocks("python") if named in block)
    return found


def proven_by_document(fields: dict[str, Any], merkle_root: str) -> bool:
    """What the function says that docs/proofs.md gives to auditors."""
    names: dict[str, Any] = {}
    exec(documented_block("def proves"), names)
    said: bool = names["proves"](merkle_root, **fields)
    return said


def proven_by_package(fields: dict[str, Any], merkle_root: str) -> bool:
    proof = InclusionProof.from_json(json.dumps(fields))
    root = bytes.fromhex(merkle_root)
    return proof.proves(Checkpoint(taken_at=NOON, heads=(), merkle_root=root, signature=None))


checked = pytest.mark.parametrize(
    "proves", [proven_by_document, proven_by_package], ids=["document", "package"]
)


# --- checkpoints ---


def test_a_checkpoint_is_the_same_whatever_the_order_of_its_heads() -> None:
    assert Checkpoint.of([head(2), head(1)], NOON) == Checkpoint.of([head(1), head(2)], NOON)


def test_the_root_is_that_of_the_heads_by_project() -> None:
    checkpoint = Checkpoint.of([head(2), head(1), head(3)], NOON)
    assert [each.project_id.int for each in checkpoint.heads] == [1, 2, 3]
    assert checkpoint.merkle_root == merkle.root([head(number).leaf for number in (1, 2, 3)])


def test_a_leaf_is_project_and_how_far_runs_and_erasures_go() -> None:
    leaf = Head(
        project_id=PROJECT, sequence=258, hash=b"h" * 32, erasures=3, erasures_hash=b"e" * 32
    ).leaf
    runs = bytes([0, 0, 0, 0, 0, 0, 1, 2]) + b"h" * 32
    assert leaf == PROJECT.bytes + runs + bytes([0, 0, 0, 0, 0, 0, 0, 3]) + b"e" * 32


def test_a_checkpoint_has_one_head_a_project() -> None:
    with pytest.raises(InvalidArgument, match=f"{UUID(int=1)} has two heads, at 3 and at 4"):
        Checkpoint.of([head(1, 3), head(2), head(1, 4)], NOON)


def test_a_checkpoint_is_taken_at_a_moment_in_utc() -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5)))
    assert Checkpoint.of([], elsewhere).taken_at.tzinfo is UTC
    with pytest.raises(InvalidArgument, match="has no time zone"):
        Checkpoint.of([], NOON.replace(tzinfo=None))


@given(checkpoints)
def test_a_checkpoint_comes_back_as_it_was_written(checkpoint: Checkpoint) -> None:
    assert Checkpoint.from_json(checkpoint.to_json()) == checkpoint
    assert Checkpoint.from_json(checkpoint.to_json()).to_json() == checkpoint.to_json()


def test_a_checkpoint_comes_back_from_a_document_that_was_indented() -> None:
    checkpoint = Checkpoint.of([head()], NOON)
    assert (
        Checkpoint.from_json(json.dumps(json.loads(checkpoint.to_json()), indent=2)) == checkpoint
    )


def test_what_is_signed_is_the_document_without_its_signature_sorted_and_without_spaces() -> None:
    signature = Signature(algorithm="ed25519", public_key=ZEROS, value=bytes(64))
    checkpoint = replace(Checkpoint.of([head()], NOON), signature=signature)
    fields = json.loads(checkpoint.to_json())
    del fields["signature"]
    assert signed_bytes(checkpoint) == json.dumps(
        fields, sort_keys=True, separators=(",", ":")
    ).encode("utf-8")


def _without(field: str) -> Callable[[dict[str, Any]], object]:
    return lambda fields: fields.pop(field)


@pytest.mark.parametrize(
    "alter, named",
    [
        (lambda fields: fields.update(version=2), "of version 2"),
        (lambda fields: fields.update(version=True), "of version True"),
        (lambda fields: fields.update(version="1"), "of version '1'"),
        (_without("version"), "of version None"),
        (_without("taken_at"), "taken_at is missing"),
        (lambda fields: fields["heads"][0].pop("erasures"), "heads.0.erasures is missing"),
        (lambda fields: fields["heads"][0].update(erasures=-1), "heads.0.erasures -1"),
        (lambda fields: fields["heads"][0].update(erasures_hash=""), "heads.0.erasures_hash ''"),
        (lambda fields: fields["heads"][0].update(erasures=3), "is not that of the heads"),
        (_without("heads"), "heads is missing"),
        (_without("merkle_root"), "merkle_root is missing"),
        (_without("signature"), "signature is missing"),
        (lambda fields: fields.update(colour="red"), "colour 'red'"),
        (lambda fields: fields["heads"][0].update(colour="red"), "heads.0.colour 'red'"),
        (lambda fields: fields["heads"][1].pop("hash"), "heads.1.hash is missing"),
        (lambda fields: fields["heads"][1].update(hash="ab"), "heads.1.hash 'ab'"),
        (lambda fields: fields["heads"][0].update(hash="AB" * 32), "heads.0.hash 'ABAB"),
        (lambda fields: fields["heads"][0].update(hash="zz" * 32), "heads.0.hash 'zzzz"),
        (lambda fields: fields["heads"][0].update(hash="ab " * 32), "heads.0.hash 'ab ab"),
        (lambda fields: fields["heads"][0].update(hash=None), "heads.0.hash None"),
        (lambda fields: fields["heads"][0].update(sequence=-1), "heads.0.sequence -1"),
        (lambda fields: fields["heads"][0].update(sequence=2**63), f"heads.0.sequence {2**63}"),
        (lambda fields: fields["heads"][0].update(sequence=True), "heads.0.sequence True"),
        (lambda fields: fields["heads"][0].update(sequence=3.0), "heads.0.sequence 3.0"),
        (lambda fields: fields["heads"][0].update(sequence="3"), "heads.0.sequence '3'"),
        (lambda fields: fields["heads"][0].update(project_id="x"), "heads.0.project_id 'x'"),
        (lambda fields: fields["heads"][0].update(project_id=1), "heads.0.project_id 1"),
        (lambda fields: fields["heads"][0].update(project_id=PROJECT.hex), PROJECT.hex),
        (lambda fields: fields.update(heads={}), "heads {}"),
        (lambda fields: fields.update(heads=[7]), "heads.0 7"),
        (lambda fields: fields["heads"].append(fields["heads"][1]), "has two heads"),
        (lambda fields: fields["heads"].reverse(), "not in the order"),
        (lambda fields: fields["heads"].pop(), "is not that of the heads"),
        (lambda fields: fields["heads"][0].update(sequence=4), "is not that of the heads"),
        (lambda fields: fields.update(merkle_root="00" * 32), "merkle_root 0000"),
        (lambda fields: fields.update(taken_at="2026-06-15T12:00:00"), "'2026-06-15T12:00:00'"),
        (lambda fields: fields.update(taken_at="2026-06-15T14:00:00+02:00"), r"14:00:00\+02:00"),
        (lambda fields: fields.update(taken_at="0001-01-01T00:00:00+14:00"), "taken_at '0001"),
        (lambda fields: fields.update(taken_at=1_781_524_800), "taken_at 1781524800"),
        (lambda fields: fields.update(signature={}), "signature.value is missing"),
        (lambda fields: fields.update(signature="x"), "signature 'x'"),
        (
            lambda fields: fields.update(
                signature={"algorithm": "rsa", "public_key": "00" * 32, "value": "00" * 64}
            ),
            "signature.algorithm 'rsa'",
        ),
        (
            lambda fields: fields.update(
                signature={"algorithm": "ed25519", "public_key": "00" * 32, "value": "00" * 63}
            ),
            "signature.value '0000",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_its_name_and_value(
    alter: Callable[[dict[str, Any]], object], named: str
) -> None:
    fields = json.loads(Checkpoint.of([head(1), head(2)], NOON).to_json())
    alter(fields)
    with pytest.raises(InvalidArgument, match=named):
        Checkpoint.from_json(json.dumps(fields))


@pytest.mark.parametrize(
    "document",
    ["", "{", "[]", "null", "1", '"text"', "[" * 100_000, "1" * 5_000, "\ufeff{}", "NaN", "{}"],
    ids=lambda document: document[:9] or "nothing",
)
def test_what_is_no_json_object_is_refused(document: str) -> None:
    for kind in (Checkpoint, InclusionProof):
        with pytest.raises(InvalidArgument, match="take the document as it was written"):
            kind.from_json(document)


def test_a_name_that_stands_twice_is_refused() -> None:
    document = Checkpoint.of([head()], NOON).to_json()
    twice = document.replace('"sequence":3', '"sequence":9,"sequence":3')
    with pytest.raises(InvalidArgument, match=r"a name stands twice among .*'sequence'"):
        Checkpoint.from_json(twice)


# --- proofs ---


@given(proofs)
def test_a_proof_comes_back_as_it_was_written(proof: InclusionProof) -> None:
    assert InclusionProof.from_json(proof.to_json()) == proof
    assert InclusionProof.from_json(proof.to_json()).to_json() == proof.to_json()


@pytest.mark.parametrize(
    "field, value",
    [
        ("run_id", 7),
        ("run_id", "half \ud800 pair"),
        ("sequence", None),
        ("encoding", "0"),
        ("later_digests", ["00"]),
        ("erased", "00" * 39),
        ("path", [["up", "00" * 32]]),
        ("path", [["left"]]),
        ("version", 0),
        ("colour", "red"),
    ],
)
def test_what_is_no_proof_is_refused_by_its_name(field: str, value: object) -> None:
    fields = {**json.loads(proof_of("run-4").to_json()), field: value}
    with pytest.raises(InvalidArgument, match=field):
        InclusionProof.from_json(json.dumps(fields))


@checked
@pytest.mark.parametrize("projects", [1, 2, 3, 8])
@pytest.mark.parametrize("run_id", RUN_IDS)
def test_a_true_proof_is_accepted(
    proves: Callable[[dict[str, Any], str], bool], run_id: str, projects: int
) -> None:
    proof = proof_of(run_id, projects=projects)
    assert proves(json.loads(proof.to_json()), proof.merkle_root.hex())


def flipped(text: str, place: int = -1) -> str:
    """The hexadecimal text with one digit changed."""
    digits = list(text)
    digits[place] = f"{int(digits[place], 16) ^ 1:x}"
    return "".join(digits)


def _forged(field: str, alter: Callable[[Any], object]) -> Any:
    return pytest.param(field, alter, id=field)


@checked
@pytest.mark.parametrize(
    "field, alter",
    [
        _forged("run_id", lambda _: "run-1"),
        _forged("run_id", lambda _: "run-123"),
        _forged("run_id", lambda _: "run-21"),
        _forged("run_id", lambda _: ""),
        _forged("run_id", lambda _: "agent-7"),
        _forged("run_id", lambda _: "run-12" + text(None).decode("latin-1")),
        _forged("project_id", lambda _: str(UUID(int=1))),
        _forged("sequence", lambda sequence: sequence + 1),
        _forged("sequence", lambda sequence: sequence - 1),
        _forged("previous_hash", flipped),
        _forged("previous_hash", lambda _: "00" * 32),
        _forged("later_digests", lambda digests: digests[1:]),
        _forged("later_digests", lambda digests: digests[:-1]),
        _forged("later_digests", lambda digests: [*digests, "00" * 32]),
        _forged("later_digests", lambda digests: digests[::-1]),
        _forged("later_digests", lambda digests: [flipped(digests[0]), *digests[1:]]),
        _forged("later_digests", lambda _: []),
        _forged("head_sequence", lambda sequence: sequence + 1),
        _forged("head_sequence", lambda sequence: sequence - 1),
        _forged("erased", flipped),
        _forged("path", lambda path: path[1:]),
        _forged("path", lambda path: path[:-1]),
        _forged("path", lambda path: [*path, ["left", "00" * 32]]),
        _forged("path", lambda path: [[path[0][0], flipped(path[0][1])], *path[1:]]),
        _forged("path", lambda path: [["right", path[0][1]], *path[1:]]),
        _forged("path", lambda _: []),
        _forged("merkle_root", flipped),
    ],
)
def test_a_proof_with_one_field_altered_is_refused(
    proves: Callable[[dict[str, Any], str], bool], field: str, alter: Callable[[Any], object]
) -> None:
    proof = proof_of("run-12")
    fields = json.loads(proof.to_json())
    altered = alter(fields[field])
    assert altered != fields[field]
    assert not proves({**fields, field: altered}, proof.merkle_root.hex())


@checked
def test_a_proof_with_any_digit_of_its_encoding_altered_is_refused(
    proves: Callable[[dict[str, Any], str], bool],
) -> None:
    proof = proof_of("run-12")
    fields = json.loads(proof.to_json())
    for place in range(len(fields["encoding"])):
        forged = {**fields, "encoding": flipped(fields["encoding"], place)}
        assert not proves(forged, proof.merkle_root.hex())


def recomputed(proof: InclusionProof, **altered: Any) -> InclusionProof:
    """A forger's: the fields altered, and the root made to agree with them."""
    forged = replace(proof, **altered)
    chained = forged.previous_hash
    for digest in (sha256(forged.encoding).digest(), *forged.later_digests):
        chained = sha256(chained + digest).digest()
    own = Head(
        project_id=forged.project_id,
        sequence=forged.head_sequence,
        hash=chained,
        erasures=int.from_bytes(forged.erased[:8], "big"),
        erasures_hash=forged.erased[8:],
    )
    return replace(forged, merkle_root=merkle.root_of(own.leaf, forged.path))


@checked
@pytest.mark.parametrize(
    "altered",
    [
        {"run_id": "run-2"},
        {"project_id": UUID(int=1)},
        {"sequence": 3, "head_sequence": 6},
        {"head_sequence": 9},
        {"encoding": b"\x02" + encoding(2, "run-12")[1:]},
        {"encoding": encoding(7, "run-12")},
        {"encoding": encoding(2, "run-12", UUID(int=1))},
        {"encoding": encoding(2, "another")},
        {"encoding": encoding(2, "")[:81]},
        {"encoding": b""},
    ],
    ids=str,
)
def test_fields_that_say_other_than_the_encoding_are_refused_under_a_root_that_agrees(
    proves: Callable[[dict[str, Any], str], bool], altered: dict[str, Any]
) -> None:
    proof = proof_of("run-12")
    assert recomputed(proof) == proof
    forged = recomputed(proof, **altered)
    assert not proves(json.loads(forged.to_json()), forged.merkle_root.hex())


def test_the_documented_function_is_not_led_to_another_place_by_the_length_of_a_field() -> None:
    # The hash of erasures, which whoever keeps a head says, in the place of that of the runs.
    true = proof_of("run-4")
    cut = "".join(
        (true.project_id.hex, (5).to_bytes(8, "big").hex(), sha256(b"the true head").hexdigest())
    )
    forged = recomputed(
        replace(true, sequence=4, head_sequence=4, later_digests=()), previous_hash=ZEROS
    )
    node = sha256(ZEROS + sha256(forged.encoding).digest()).digest()
    leaf = bytes.fromhex(cut) + (4).to_bytes(8, "big") + node
    root = merkle.root_of(leaf, forged.path).hex()
    fields = json.loads(forged.to_json()) | {"project_id": cut, "erased": "", "merkle_root": root}
    assert not proven_by_document(fields, root)
    encoded = f"01{cut}{4:016x}" + fields["encoding"][50:]
    assert not proven_by_document(fields | {"encoding": encoded}, root)


@checked
def test_a_proof_of_a_root_that_is_not_trusted_is_refused(
    proves: Callable[[dict[str, Any], str], bool],
) -> None:
    forged = recomputed(proof_of("run-12"), encoding=encoding(2, "run-12")[:-1] + b"\x01")
    assert proves(json.loads(forged.to_json()), forged.merkle_root.hex())
    assert not proves(json.loads(forged.to_json()), proof_of("run-12").merkle_root.hex())


# --- what docs/proofs.md says ---


def test_the_documented_function_is_ten_lines_of_hashlib_and_json() -> None:
    source = documented_block("def proves")
    tree = ast.parse(source)
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert function.end_lineno is not None
    assert function.end_lineno - function.lineno < 10
    assert max(map(len, source.splitlines())) <= 100
    imports = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert imports <= {"hashlib", "json"}


def test_the_documented_function_is_not_led_to_another_place_by_spaces_in_the_encoding() -> None:
    # Python reads hexadecimal with spaces in it; behind 16, the run id seems to be in the duration.
    proof = proof_of("run-12")
    fields = json.loads(proof.to_json())
    shifted = fields["encoding"][:50] + " " * 16 + fields["encoding"][50:]
    assert shifted[162:170] == "00000000"
    forged = {**fields, "encoding": shifted, "run_id": ""}
    assert not proven_by_document(forged, proof.merkle_root.hex())


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_the_documented_function_refuses_a_version_that_it_does_not_know(version: object) -> None:
    proof = proof_of("run-12")
    fields = {**json.loads(proof.to_json()), "version": version}
    assert not proven_by_document(fields, proof.merkle_root.hex())


@pytest.mark.parametrize("field", json.loads(proof_of("run-12").to_json()))
def test_the_documented_function_accepts_no_proof_that_lacks_a_field(field: str) -> None:
    proof = proof_of("run-12")
    fields = json.loads(proof.to_json())
    del fields[field]
    with pytest.raises(TypeError, match=field):
        proven_by_document(fields, proof.merkle_root.hex())


def test_the_documented_example_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, proof = blocks("json")
    assert (
        InclusionProof.from_json(proof).merkle_root == Checkpoint.from_json(checkpoint).merkle_root
    )
    (tmp_path / "checkpoint.json").write_text(checkpoint, encoding="utf-8")
    (tmp_path / "proof.json").write_text(proof, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(documented_block("def proves") + documented_block("print(proves("), {})
    assert capsys.readouterr().out == "True\n"


def test_the_documented_signature_is_that_of_the_documented_key_over_the_documented_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (public,) = blocks("text")
    signed = Checkpoint.from_json(blocks("json")[0])
    require_signature(signed, public.encode())
    (tmp_path / "checkpoint.json").write_text(blocks("json")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(documented_block("checkpoint.pop"), {})
    assert signed.signature is not None
    assert (tmp_path / "signed").read_bytes() == signed_bytes(signed)
    assert (tmp_path / "signature").read_bytes() == signed.signature.value


# --- signatures ---


def test_a_signed_checkpoint_is_accepted_with_the_key_that_signed_it() -> None:
    private, public = new_key()
    signed = sign(Checkpoint.of([head()], NOON), private)
    require_signature(signed, public)
    require_signature(Checkpoint.from_json(signed.to_json()), public)


def test_a_signature_takes_the_place_of_another() -> None:
    checkpoint = Checkpoint.of([head()], NOON)
    (first, _), (private, public) = new_key(), new_key()
    assert sign(sign(checkpoint, first), private) == sign(checkpoint, private)
    require_signature(sign(sign(checkpoint, first), private), public)


def test_an_unsigned_checkpoint_is_refused() -> None:
    _, public = new_key()
    with pytest.raises(InvalidSignature, match="2026-06-15T12:00:00Z is not signed"):
        require_signature(Checkpoint.of([head()], NOON), public)


def test_a_checkpoint_that_another_key_has_signed_is_refused() -> None:
    (private, _), (_, public) = new_key(), new_key()
    signed = sign(Checkpoint.of([head()], NOON), private)
    assert signed.signature is not None
    key = signed.signature.public_key.hex()
    with pytest.raises(InvalidSignature, match=f"signed with the key {key}, not with"):
        require_signature(signed, public)


@pytest.mark.parametrize(
    "altered",
    [
        Checkpoint.of([head(1, 2)], NOON),
        Checkpoint.of([], NOON),
        Checkpoint.of([head()], NOON + timedelta(microseconds=1)),
        replace(Checkpoint.of([head()], NOON), merkle_root=ZEROS),
    ],
    ids=["head", "heads", "taken_at", "merkle_root"],
)
def test_a_checkpoint_that_was_altered_after_it_was_signed_is_refused(altered: Checkpoint) -> None:
    private, public = new_key()
    signed = sign(Checkpoint.of([head()], NOON), private)
    forged = replace(altered, signature=signed.signature)
    with pytest.raises(InvalidSignature, match="is not what the key"):
        require_signature(forged, public)
    with pytest.raises(InvalidSignature, match="is not what the key"):
        require_unaltered(forged)
    require_unaltered(signed)
    require_unaltered(altered)


def test_a_forged_signature_is_refused() -> None:
    private, public = new_key()
    signed = sign(Checkpoint.of([head()], NOON), private)
    assert signed.signature is not None
    forged = replace(signed.signature, value=bytes(64))
    with pytest.raises(InvalidSignature, match="is not what the key"):
        require_signature(replace(signed, signature=forged), public)


def _other_keys() -> dict[str, tuple[bytes, bytes]]:
    """Pairs of PEM that are no Ed25519 keys, or not those that are asked for."""

    def pem(key: Any, encryption: form.KeySerializationEncryption) -> tuple[bytes, bytes]:
        return (
            key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption),
            key.public_key().public_bytes(
                form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
            ),
        )

    elliptic = pem(ec.generate_private_key(ec.SECP256R1()), form.NoEncryption())
    private, public = new_key()
    encrypted, _ = pem(ed25519.Ed25519PrivateKey.generate(), form.BestAvailableEncryption(b"word"))
    return {
        "another algorithm": elliptic,
        "the other of the pair": (public, private),
        "encrypted": (encrypted, encrypted),
        "no PEM": (b"-----BEGIN PRIVATE KEY-----", b"word"),
        "nothing": (b"", b""),
    }


OTHER_KEYS = _other_keys()


@pytest.mark.parametrize("private, public", OTHER_KEYS.values(), ids=OTHER_KEYS)
def test_what_is_no_ed25519_key_is_refused_and_not_shown(private: bytes, public: bytes) -> None:
    checkpoint = Checkpoint.of([head()], NOON)
    with pytest.raises(InvalidArgument, match="private_key_pem is not an Ed25519") as refused:
        sign(checkpoint, private)
    assert "BEGIN" not in str(refused.value)
    with pytest.raises(InvalidArgument, match="public_key_pem is not an Ed25519") as refused:
        require_signature(checkpoint, public)
    assert "BEGIN" not in str(refused.value)
    assert "ledger.new_signing_key(), `ledger audit new-key`" in str(refused.value)


def test_without_its_extra_signing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = new_key()
    signed = sign(Checkpoint.of([head()], NOON), private)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for use in (
        new_key,
        lambda: sign(signed, private),
        lambda: require_signature(signed, public),
        lambda: require_unaltered(signed),
    ):
        with pytest.raises(SigningUnavailable, match=r"pip install 'llm-ledger\[signing\]'"):
            use()


def test_cryptography_is_imported_only_when_a_key_is_used() -> None:
    program = (
        "import sys; from ledger.records import checkpoint, signing;"
        " sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
