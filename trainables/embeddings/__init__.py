"""What frozen encoders say of a table's faces, computed once and shared by all trials on a node."""
