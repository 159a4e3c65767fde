from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.core.installed import Entry, Installed
from viommu.errors import BrokenDriver
from viommu.models import edu
from viommu.vfio import catalogue

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from tests.cli.conftest import Run


def entry(name: str, plugin: object) -> EntryPoint:
    made = Entry(name, "somewhere", "viommu.devices")
    vars(made).update(plugin=plugin, dist=Installed("a-dist", "1.2"))
    return made


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [entry("edu", edu), entry("broken", ImportError("no module named numpi")), entry("other", edu)]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: found if group == "viommu.devices" else [])


def test_models_are_listed_with_their_options(run: Run) -> None:
    code, out, err = run("devices")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "distribution a-dist 1.2" in lines
    assert "option dma_mask which bits of a DMA address count (default 0xfffffff)" in lines
    assert any("numpi" in line for line in lines)


def test_models_are_listed_as_json(run: Run) -> None:
    code, out, _ = run("devices", "--json")
    found = json.loads(out)
    assert code == 0
    (model,) = found["models"]
    assert (model["name"], model["version"], sorted(model["options"])) == ("edu", "1.2", ["delay", "dma_mask"])
    assert {error["name"]: error["reason"] for error in found["broken"]}["other"].startswith("viommu_model_info")


def test_a_broken_model_is_in_nobody_elses_way() -> None:
    assert catalogue.model_named("edu").info.name == "edu"
    with pytest.raises(BrokenDriver, match="numpi"):
        catalogue.model_named("broken")
