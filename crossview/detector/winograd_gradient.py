"""The gradient of a 3x3 convolution's kernels with fewer multiplications.

Where a map gives a result, tile by tile, the gradient of the kernel is the correlation of 6x6 values of the map with
4x4 values of the result's gradient. Winograd's minimal filtering (Lavin and Gray 2016, "Fast algorithms for
convolutional neural networks", F(3x3, 4x4)) needs 36 multiplications for its 3x3 values instead of 144: the sum over
tiles of

    G^T [(A g A^T) * (B^T d B)] G,    d: 6x6 of the map, g: 4x4 of the gradient, *: value by value

with the matrices of the points 0, 1, -1, 2, -2 and infinity. The sum comes before G, and is then one product of
matrices (out_channels, tiles) (tiles, channels) for each of the 36 values.

Convention:
    Maps are (B, C, h, w), single precision, in the ordinary order of memory; the convolution has stride 1 and a border
    of one pixel of zeros. Tiles start every `STRIDE` pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

STRIDE = 4  # pixels: a tile of the gradient
REACH = 6  # pixels: a tile of the map, a kernel's border around it
TILES_AT_ONCE = 128  # so many that the products are worth their start, so few that tiles stay in the processor's cache

_B_TRANSPOSED = torch.tensor([
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
])  # fmt: skip
_A = torch.tensor([[1.0, point, point**2, point**3] for point in (0, 1, -1, 2, -2)] + [[0.0, 0.0, 0.0, 1.0]])
_G_TRANSPOSED = torch.tensor([
    [1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24, 0.0],
    [0.0, -1 / 6, 1 / 6, 1 / 12, -1 / 12, 0.0],
    [0.0, -1 / 6, -1 / 6, 1 / 6, 1 / 6, 1.0],
])  # fmt: skip
# Rows and columns of a tile at once: the tile is a vector of all its values, row by row.
_MAP_TRANSFORM = torch.kron(_B_TRANSPOSED, _B_TRANSPOSED)
_GRADIENT_TRANSFORM = torch.kron(_A, _A)
_KERNEL_TRANSFORM = torch.kron(_G_TRANSPOSED, _G_TRANSPOSED)


def kernel_gradient(maps: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of the kernels of a 3x3 convolution.

    Args:
        maps: (B, C, h, w) what was convolved.
        gradient: (B, K, h, w) of the result.

    Returns:
        (K, C, 3, 3), within 5e-5 of its standard deviation.
    """
    (_, channels, height, width), results = maps.shape, gradient.shape[1]
    across = -(-width // STRIDE)
    right = STRIDE * across - width
    step = STRIDE * max(1, TILES_AT_ONCE // across)
    total = maps.new_zeros(REACH * REACH, results, channels)
    for one_map, one_gradient in zip(maps, gradient, strict=True):
        for top in range(0, height, step):
            rows = one_gradient[:, top : top + step]
            bottom = -rows.shape[1] % STRIDE
            end = top + rows.shape[1] + bottom + 1
            bordered = functional.pad(
                one_map[:, max(0, top - 1) : end], (1, right + 1, int(top == 0), max(0, end - height))
            )
            of_map = _MAP_TRANSFORM @ _tiles(bordered, REACH)
            of_gradient = _GRADIENT_TRANSFORM @ _tiles(functional.pad(rows, (0, right, 0, bottom)), STRIDE)
            total.baddbmm_(
                of_gradient.view(REACH * REACH, results, -1), of_map.view(REACH * REACH, channels, -1).transpose(1, 2)
            )
    kernels = _KERNEL_TRANSFORM @ total.flatten(1)
    return kernels.view(3, 3, results, channels).permute(2, 3, 0, 1).contiguous()


def _tiles(values: Tensor, side: int) -> Tensor:
    """All tiles of values (C, h, w) as vectors: (side * side, C * tiles)."""
    tiles = values.unfold(1, side, STRIDE).unfold(2, side, STRIDE)
    return tiles.permute(3, 4, 0, 1, 2).reshape(side * side, -1)
