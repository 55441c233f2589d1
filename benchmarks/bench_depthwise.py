"""Training steps a second with our depthwise convolutions against torch's own, the same network, one thread.

Run: python benchmarks/bench_depthwise.py

Why there is something to gain: a profile of a training step of tf_efficientnet_lite0 (48 px, batch 64, channels last,
one thread) spent 71 % in convolution_backward. Layer by layer, the forward pass of all convolutions took 61 ms, the
gradients of their inputs 68 ms, the weight gradients of the 1 x 1 convolutions 65 ms, and the weight gradients of 14
depthwise ones 277 ms: 230 ms of that in the 5 x 5 kernels on maps of 2 x 2 to 6 x 6. The sum over shifts takes 0.9 ms
where oneDNN took 86 ms (1152 channels, 2 x 2). For 3 x 3 kernels on maps of 3 x 3 and more oneDNN is quicker and stays.
"""

import copy
import sys
import time
from functools import partial

import timm
import torch
from measure import bench_arguments, compare, medians_in_turn, report
from torch import nn

from trainables.models.depthwise import use_quick_depthwise

BATCH, STEPS = 64, 2
CASES = (
    ("tf_efficientnet_lite0", 48),
    ("mobilenetv3_small_050", 48),
    ("lcnet_050", 48),
    ("tf_efficientnet_lite0", 112),
)


def main() -> int:
    """Measure and print."""
    arguments = bench_arguments(__doc__, runs=5)
    torch.set_num_threads(1)
    rows = []
    for backbone, image_px in CASES:
        plain = timm.create_model(backbone, num_classes=6).to(memory_format=torch.channels_last).train()
        quick = use_quick_depthwise(copy.deepcopy(plain))
        images = torch.randn(BATCH, 3, image_px, image_px).to(memory_format=torch.channels_last)
        networks = {"torch": plain, "ours": quick}
        works = {name: partial(images_a_second, network, images) for name, network in networks.items()}
        rates = medians_in_turn(works, runs=arguments.runs)
        rows.append(
            compare(
                f"training with our depthwise convolutions, {backbone}, {image_px} px", rates["ours"], "images/CPU s",
                peer="torch's own", peer_value=rates["torch"], is_smaller_better=False,
            )
        )  # fmt: skip
    return report(rows, arguments)


def images_a_second(network: nn.Module, images: torch.Tensor) -> float:
    """Images a CPU second in forward and backward passes."""
    labels = torch.zeros(len(images), dtype=torch.long)
    started_s = time.process_time()
    for _ in range(STEPS):
        network.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
    return STEPS * len(images) / (time.process_time() - started_s)


if __name__ == "__main__":
    sys.exit(main())
