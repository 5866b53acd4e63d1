"""A start for deep networks without normalisation layers: every channel centred and scaled on a few real images.

In a deep stack of random ReLU layers the responses to all places of all images grow alike, and a detector first spends
hundreds of steps on telling them apart. Centring each channel once removes what they share. The network itself stays as
it is: only the initial weights and biases change.

Source: the data-dependent initialisation of Salimans and Kingma, "Weight Normalization", 2016, section 3, on plain
convolutions; see also Mishkin and Matas, "All You Need is a Good Init", 2016.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

MIN_DEVIATION = 1e-3  # a channel that hardly varies on these images is centred but not blown up


@torch.no_grad()
def calibrate_start(network: nn.Module, layers: Iterable[nn.Conv2d], images: Tensor) -> int:
    """Rescales convolutions so that each output channel has mean 0 and standard deviation 1 on these images.

    Every layer sees the calibrated output of those before it, in a single pass.

    Args:
        network: called with ``images``; in the mode for training, as it may look at images one by one in evaluation.
        layers: the convolutions to calibrate; each must have a bias and be called once in a pass.
        images: (B, 3, H, W), whatever the network takes.

    Returns:
        The number of layers that were calibrated.

    Raises:
        ValueError: a layer has no bias, or the network is not in the mode for training.
    """
    if not network.training:
        raise ValueError("the network to calibrate is in the mode for evaluation; call train() first")
    handles = [layer.register_forward_hook(partial(_recentre, layer)) for layer in layers]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return len(handles)


def _recentre(layer: nn.Conv2d, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Forward hook: changes the layer, and its output to what the changed layer would have given."""
    if layer.bias is None:
        raise ValueError(f"cannot centre a convolution without a bias: {layer}")
    mean = output.mean(dim=(0, 2, 3))
    centred = output.sub_(mean[:, None, None])  # in place: fresh memory for large maps takes as long as the convolution
    norm = torch.linalg.vector_norm(centred, dim=(0, 2, 3))
    freedom = max(output.numel() // output.shape[1] - 1, 1)
    deviation = (norm / freedom**0.5).clamp(min=MIN_DEVIATION)
    layer.weight.div_(deviation[:, None, None, None])
    layer.bias.copy_((layer.bias - mean) / deviation)
    return centred.div_(deviation[:, None, None])
