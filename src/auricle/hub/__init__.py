"""Models by name: the catalogue of what is published, the local cache, and the hub.

Gives paths; what the files at a path hold is the business of `checkpoints`. Imports no torch, so
that listing models is quick.
"""

from auricle.hub.cache import check
from auricle.hub.fetching import Pulled, is_cached, on_disk, pull, repository_of, resolve

__all__ = ["Pulled", "check", "is_cached", "on_disk", "pull", "repository_of", "resolve"]
