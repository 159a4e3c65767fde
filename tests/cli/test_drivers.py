from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from tests.cli.conftest import Run
    from tests.core.installed import Shelf


def test_drivers_are_listed_with_what_they_support(run: Run, shelf: Shelf, snapshot: SnapshotAssertion) -> None:
    shelf.install("broken", ImportError("no module named numpi"), "broken-dist")

    code, out, err = run("drivers")

    assert (code, err) == (0, "")
    assert out == snapshot


def test_drivers_are_listed_as_json(run: Run, shelf: Shelf) -> None:
    shelf.install("broken", ImportError("no module named numpi"), "broken-dist")

    code, out, _ = run("drivers", "--json")

    found = json.loads(out)
    assert code == 0
    assert found["drivers"] == [
        {
            "name": "toy",
            "title": "A toy",
            "distribution": "toy-dist",
            "version": "1.2",
            "specification": "",
            "requester_bits": 8,
            "pasid_bits": 4,
            "supports": ["nothing much"],
        }
    ]
    assert [error["name"] for error in found["broken"]] == ["broken"]
    assert "numpi" in found["broken"][0]["reason"]


def test_an_empty_list_says_what_to_do(run: Run, shelf: Shelf) -> None:
    shelf.entries.clear()

    assert run("drivers") == (0, "no driver is installed: install one, such as viommu-vtd\n", "")
