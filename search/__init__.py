"""Many trials: launch, sample, stop, record, blend, export.

Nothing heavy is loaded here: `--help` answers at once. What is offered to notebooks and scripts is listed in `__all__`.
"""

from search.api.launching import launch_search
from search.api.models import Ensemble, Model, load_model
from search.api.searches import Search, open_search

__all__ = ["Ensemble", "Model", "Search", "launch_search", "load_model", "open_search"]
