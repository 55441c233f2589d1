"""The networks themselves. This folder travels inside an exported model: it imports torch, timm, torchvision and
itself (by relative imports, under whatever name it is loaded), and nothing else of ours. This file loads nothing."""
