"""Model families do not know each other, so one is added or dropped without reading the rest."""

from __future__ import annotations

import grimp
import pytest

from maskmill.worker.models import FAMILIES

MODULES = {family.__module__ for family in FAMILIES.values()}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_family_imports_no_other_family(module: str) -> None:
    graph = grimp.build_graph("maskmill")
    assert graph.find_modules_directly_imported_by(module) & (MODULES - {module}) == set()
