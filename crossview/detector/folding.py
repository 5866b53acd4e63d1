"""Batch normalisation as part of the convolution before it, for inference.

With fixed statistics a normalisation is a factor and a term for each channel, which the convolution can have in its
weights and biases (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.2). What is left to do for each pixel is the activation.
"""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crossview.detector.apart import is_inference_on_cpu
from crossview.detector.packed_convolution import with_packed_convolutions


class FoldedCopy:
    """A copy of a network for inference, made when it is first asked for, and anew after the network has changed."""

    def __init__(self) -> None:
        """Starts without a copy."""
        self._made: tuple[tuple[tuple[int, int], ...], nn.Module] | None = None

    def of(self, network: nn.Module) -> nn.Module:
        """The copy, in evaluation mode and in ``channels_last``; see `folded` and `with_packed_convolutions`.

        Args:
            network: on the CPU, the same in every call. Changes of its tensors that PyTorch counts are noticed, as by
                ``load_state_dict``, and so are new tensors. Fused optimizers and changes of ``.data`` in place are not:
                whoever trains the network starts with a new `FoldedCopy` afterwards.
        """
        tensors = [*network.parameters(), *network.buffers()]
        state = tuple((tensor.data_ptr(), _version(tensor)) for tensor in tensors)
        made = self._made  # callers in several threads may make two
        if made is None or made[0] != state:
            copied = with_packed_convolutions(folded(network))
            made = state, copied.to(memory_format=torch.channels_last)
            self._made = made
        return made[1]

    def __deepcopy__(self, memo: object) -> "FoldedCopy":
        """Another network's copy is another one."""
        return FoldedCopy()

    def __reduce__(self) -> tuple[type["FoldedCopy"], tuple[()]]:
        """Nothing of it is kept in files."""
        return FoldedCopy, ()


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # only the others count their changes


@torch.no_grad()
def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose batch normalisations are folded into the convolutions that they follow.

    A normalisation follows a convolution if both are children of one module, one after the other, as in most networks.
    What the normalisation does besides (the activation of timm's ``BatchNormAct2d``) stays. Hooks are copied as they
    are at that time.

    Raises:
        ValueError: a batch normalisation follows no convolution of as many channels.
    """
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        for (name, layer), (norm_name, norm) in pairwise((("", None), *parent.named_children())):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            if not isinstance(layer, nn.Conv2d) or layer.out_channels != norm.num_features:
                raise ValueError(f"{norm_name} of {type(parent).__name__} follows no convolution of its channels")
            setattr(parent, name, fuse_conv_bn_eval(layer, norm))
            setattr(parent, norm_name, _besides(norm))
    return network


def _besides(norm: nn.BatchNorm2d) -> nn.Module:
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()


def wants_folding(module: nn.Module, images: Tensor) -> bool:
    """Whether a network in this mode should look at these images with folded normalisations: inference on the CPU."""
    is_traced = torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]  # untyped there
    return is_inference_on_cpu(module, images) and not is_traced
