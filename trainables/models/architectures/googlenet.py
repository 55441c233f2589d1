"""torchvision's GoogLeNet with the few methods that timm's networks have.

Source: Szegedy et al., CVPR 2015; Li et al. 2022 use torchvision's, 1,024 features.
"""

from typing import Any, ClassVar

import torch
import torchvision
from torch import nn

_STEM = ("conv1", "maxpool1", "conv2", "conv3", "maxpool2")
_BLOCKS = (
    "inception3a", "inception3b", "maxpool3",
    "inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4",
    "inception5a", "inception5b",
)  # fmt: skip


class GoogLeNet(torchvision.models.GoogLeNet):  # type: ignore[misc]
    """GoogLeNet without classifier and auxiliary heads; weights keep torchvision's names."""

    num_features = 1024
    pretrained_cfg: ClassVar[dict[str, Any]] = {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "classifier": ("fc", "aux1", "aux2"),
        "input_size": (3, 224, 224),
    }

    def __init__(self) -> None:
        # torch's own start suits batch norm as well. The published weights were trained on pixels from -1 to 1, and
        # torchvision sets `transform_input` with them: the network itself brings ImageNet's normalisation to that.
        super().__init__(aux_logits=False, init_weights=False, transform_input=True)
        self.fc = nn.Identity()

    def forward_features(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, 3, px, px] to maps [batch, 1024, px / 32, px / 32]."""
        inputs = self._transform_input(inputs)
        for name in (*_STEM, *_BLOCKS):
            inputs = getattr(self, name)(inputs)
        return inputs

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = True) -> torch.Tensor:
        """Maps to pooled features [batch, 1024]."""
        return torch.flatten(self.avgpool(maps), 1)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameter belongs to which block, in timm's form."""
        names = [name for name in _BLOCKS if name.startswith("inception")]
        groups = sorted({name[:10] for name in names}) if coarse else names
        return {"stem": r"^conv\d", "blocks": [(f"^{name}", (float(i),)) for i, name in enumerate(groups)]}
