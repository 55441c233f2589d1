"""What the losses share: enough digits, and means that leave out what is unknown."""

import torch


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """The same numbers in float32 where they come in half precision or whole; float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def own_log_probs(log_probs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Those of each face's own class: [batch, classes] and int64 [batch] to [batch]."""
    return log_probs.gather(1, labels[:, None]).squeeze(1)


def mean_of_known(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean of the values that are known.

    Args:
        values: [...], finite where unknown too.
        known: bool [...].

    Returns:
        A scalar with a graph; 0 where nothing is known.
    """
    return (values * known).sum() / known.sum().clamp(min=1)
