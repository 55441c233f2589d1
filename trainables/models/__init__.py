"""Networks. This file loads nothing."""
