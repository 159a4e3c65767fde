from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.core.captured import RECORDINGS

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from tests.cli.conftest import Run


@pytest.mark.parametrize(
    "arguments",
    [("0x5010",), ("0x5010", "--access", "w"), ("0x200123", "--privileged", "--pasid", "2"), ("0x9000",)],
    ids=["translated", "permission", "large page", "not present"],
)
def test_a_walk_can_be_followed(run: Run, toy: Path, arguments: tuple[str, ...], snapshot: SnapshotAssertion) -> None:
    code, out, err = run("walk", toy, "--rid", "0x3", *arguments)

    assert (code, err) == (0, "")
    assert out == snapshot


@pytest.mark.parametrize("rid", ["4", "5", "200"], ids=["bypass", "abort", "refused"])
def test_a_configuration_that_needs_no_walk_is_explained_as_well(
    run: Run, toy: Path, rid: str, snapshot: SnapshotAssertion
) -> None:
    code, out, err = run("walk", toy, "--rid", rid, "0x5010")

    assert (code, err) == (0, "")
    assert out == snapshot


def test_a_walk_is_json_on_request(run: Run, toy: Path) -> None:
    code, out, _ = run("walk", toy, "--rid", "3", "0x5010", "--json")

    assert code == 0
    assert json.loads(out)["result"]["pa"] == "0x80000010"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rid", "0x100", "0"), "RID for toy 0x100 is above 0xff"),
        (("--rid", "3", "--pasid", "16", "0"), "PASID for toy 0x10 is above 0xf"),
        (("--rid", "3", "0x10000000000000000"), "IOVA 0x10000000000000000 is above 0xffffffffffffffff"),
        (("--rid", "three", "0"), "Invalid value for '--rid': 'three' is no number (0x1f or 31)"),
        (("--rid", "3", "5_000"), "Invalid value for 'IOVA': '5_000' is no number (0x1f or 31)"),
        (("--rid", "3", "0", "--access", "rw"), "Invalid value for '--access': 'rw' is not one of 'r', 'w', 'x'."),
        (("0",), "Missing option '--rid'."),
    ],
)
def test_an_argument_that_cannot_be_asked_is_told_in_one_line(
    run: Run, toy: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert run("walk", toy, *arguments) == (2, "", f"viommu: {message}\n")


@pytest.mark.parametrize("family", ["vtd-legacy-aw48", "amd-v1"])
def test_a_requester_id_beyond_16_bits_is_refused_by_the_families_that_have_no_more(run: Run, family: str) -> None:
    code, out, err = run("walk", RECORDINGS / family, "--rid", "0x10000", "0")

    assert (code, out) == (2, "")
    assert err.endswith("0x10000 is above 0xffff\n")


def test_a_recorded_nested_walk_shows_both_stages(run: Run) -> None:
    code, out, err = run("walk", RECORDINGS / "smmuv3-nested-4k-48", "--rid", "0x28", "0x1000")

    assert (code, err) == (0, "")
    assert "STE at 0x480a8a00" in out
    assert "level 3 at IPA 0x90000000 (PA 0x45c74000)" in out
    assert "stage 2 looks for that entry" in out
    assert out.endswith("result\n  PA 0x45b4f000 through IPA 0x91001000, 4K page, rights rwx\n")
