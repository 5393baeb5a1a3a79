"""Merkle trees as RFC 6962 has them (section 2.1), over SHA-256.

A leaf is hashed after a byte 0x00 and a node after a byte 0x01, so neither can pass for the
other. A tree of n leaves splits at the largest power of two below n; built from the bottom, that
is to pair neighbours level by level and to lift a last one without a neighbour as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final, Literal, TypeAlias

from ledger.errors import InvalidArgument

Side: TypeAlias = Literal["left", "right"]
"""Where a sibling stands, seen from the node that it is hashed with."""
Path: TypeAlias = tuple[tuple[Side, bytes], ...]
"""The siblings of a leaf and of the nodes above it, from the leaf to the root."""

_EMPTY: Final = sha256(b"").digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The 32 bytes that stand for these leaves, in this order; of none, SHA-256 of nothing."""
    nodes = [_EMPTY]
    for nodes in _levels(leaves):  # noqa: B007 - the last level is what is asked for
        pass
    return nodes[0]


def path(leaves: Sequence[bytes], index: int) -> Path:
    """The siblings that lead from the leaf at ``index``, from 0, to the root.

    Raises InvalidArgument where there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise InvalidArgument(
            f"index {index} is not that of a leaf; there are {len(leaves)}, counted from 0"
        )
    steps: list[tuple[Side, bytes]] = []
    for nodes in _levels(leaves):
        if index % 2:
            steps.append(("left", nodes[index - 1]))
        elif index + 1 < len(nodes):
            steps.append(("right", nodes[index + 1]))
        index //= 2
    return tuple(steps)


def root_of(leaf: bytes, path: Path) -> bytes:
    """The root of the tree in which this leaf has this path."""
    node = _leaf(leaf)
    for side, sibling in path:
        node = _node(sibling, node) if side == "left" else _node(node, sibling)
    return node


def _levels(leaves: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The nodes of each level, from the hashed leaves to the root alone; nothing of no leaves."""
    nodes = [_leaf(leaf) for leaf in leaves]
    while len(nodes) > 1:
        yield nodes
        lifted = nodes[-1:] if len(nodes) % 2 else []
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        nodes = [_node(left, right) for left, right in pairs] + lifted
    if nodes:
        yield nodes


def _leaf(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
