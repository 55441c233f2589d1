"""Expression heads on embeddings, many configs' at once: what costs a search nothing once faces are embedded."""

from trainables.heads.settings import HEAD_SETTINGS, why_not_packable, why_stage_not_packable

__all__ = ["HEAD_SETTINGS", "why_not_packable", "why_stage_not_packable"]
