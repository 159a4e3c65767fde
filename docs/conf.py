"""How the site is built: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

project = "viommu"
author = copyright = "The viommu developers"  # noqa: A001 - Sphinx's name
extensions = ["myst_parser", "sphinx_click", "extension"]
html_theme = "furo"
html_title = "viommu"
html_copy_source = False
html_show_sourcelink = False
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# `Name` in a docstring is a link where there is such a name, and code where there is none.
default_role = "py:obj"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries = False
