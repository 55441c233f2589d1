"""The papers' tables once more: their rows as trials on the user's faces, and the page that shows both side by side."""
