"""Where a backbone comes from: a hub, a folder, a package, or a recipe that makes it here."""

from realign.study.base import Section


class Backbone(Section):
    """One backbone and its single source."""
