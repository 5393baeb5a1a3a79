"""Merkle trees are those of RFC 6962, and a path holds for one leaf of one tree."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidArgument
from ledger.records import merkle

# Of the reference implementation, github.com/google/certificate-transparency.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

trees = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


def oracle(leaves: list[bytes]) -> bytes:
    """Word for word section 2.1 of RFC 6962."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + oracle(leaves[:split]) + oracle(leaves[split:])).digest()


@pytest.mark.parametrize("count", range(len(ROOTS)))
def test_the_root_is_that_of_the_reference_implementation(count: int) -> None:
    assert merkle.root(LEAVES[:count]).hex() == ROOTS[count]


@given(trees)
def test_the_root_is_that_of_the_definition(leaves: list[bytes]) -> None:
    assert merkle.root(leaves) == oracle(leaves)


@given(trees)
def test_the_path_of_every_leaf_leads_to_the_root(leaves: list[bytes]) -> None:
    root = merkle.root(leaves)
    for index, leaf in enumerate(leaves):
        assert merkle.root_of(leaf, merkle.path(leaves, index)) == root


@given(trees, st.data())
def test_the_path_of_an_altered_leaf_leads_elsewhere(
    leaves: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.binary(max_size=8).filter(lambda leaf: leaf != leaves[index]))
    assert merkle.root_of(other, merkle.path(leaves, index)) != merkle.root(leaves)


@given(trees, st.data())
def test_an_altered_path_leads_elsewhere(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.path([*leaves, b"one more"], index)
    step = data.draw(st.integers(0, len(path) - 1))
    side, sibling = path[step]
    altered = sibling[:-1] + bytes([sibling[-1] ^ 1])
    forged = data.draw(
        st.sampled_from(
            [
                (*path[:step], (side, altered), *path[step + 1 :]),
                (*path[:step], *path[step + 1 :]),
                (*path[: step + 1], *path[step:]),
            ]
        )
    )
    assert merkle.root_of(leaves[index], forged) != merkle.root([*leaves, b"one more"])


def test_a_sibling_on_the_other_side_leads_elsewhere() -> None:
    ((_, sibling),) = merkle.path([b"left", b"right"], 0)
    assert merkle.root_of(b"left", (("left", sibling),)) != merkle.root([b"left", b"right"])


def test_a_node_cannot_pass_for_a_leaf() -> None:
    left, right = (sha256(b"\x00" + leaf).digest() for leaf in (b"a", b"b"))
    assert merkle.root([left + right]) != merkle.root([b"a", b"b"])


def test_leaves_in_another_order_have_another_root() -> None:
    assert merkle.root([b"a", b"b"]) != merkle.root([b"b", b"a"])


def test_a_tree_of_100_000_leaves_is_hashed_once_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = [index.to_bytes(4, "big") for index in range(100_000)]
    hashed = 0

    def counting(data: bytes) -> object:
        nonlocal hashed
        hashed += 1
        return sha256(data)

    monkeypatch.setattr(merkle, "sha256", counting)
    root = merkle.root(leaves)
    assert hashed == 2 * len(leaves) - 1
    for index in (0, 65_535, 65_536, 99_999):
        path = merkle.path(leaves, index)
        assert len(path) <= 17
        assert merkle.root_of(leaves[index], path) == root


@pytest.mark.parametrize("count, index", [(0, 0), (3, 3), (3, -1)])
def test_a_leaf_that_is_not_there_has_no_path(count: int, index: int) -> None:
    with pytest.raises(InvalidArgument, match=f"index {index} .* there are {count}"):
        merkle.path(LEAVES[:count], index)
