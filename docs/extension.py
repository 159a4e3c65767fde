"""What the site's pages can ask for: ``.. viommu-api:: MODULE``, ``viommu-hooks``, ``viommu-layouts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sphinx.util.docutils import SphinxDirective

from tools.docs import hooks, layouts, reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from docutils.nodes import Node
    from sphinx.application import Sphinx


class _Generated(SphinxDirective):
    """A directive that stands for text, which may have headings."""

    required_arguments = 1
    text: ClassVar[Callable[[str], str]]

    def run(self) -> list[Node]:
        """Parse the text in the directive's place."""
        return self.parse_text_to_nodes(type(self).text(self.arguments[0]), allow_section_headings=True)


class Api(_Generated):
    """A module's public names."""

    text = staticmethod(reference.page)


class Hooks(_Generated):
    """A module's hooks."""

    text = staticmethod(hooks.page)


class Layouts(_Generated):
    """A driver's layouts."""

    text = staticmethod(layouts.page)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_directive("viommu-api", Api)
    app.add_directive("viommu-hooks", Hooks)
    app.add_directive("viommu-layouts", Layouts)
    return {"parallel_read_safe": True}
