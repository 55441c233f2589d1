"""How an epoch is drawn from a trial's faces, one sampler a file; `spaces/registries.py` names them."""
