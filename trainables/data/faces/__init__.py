"""Generated faces: who (identity), what (expression), where it all lies (geometry), seen how (pose, domains), drawn.

Every face has its own seed, so it is the same whoever draws it, in whatever order. This file loads nothing.
"""
