"""What the tests of the geometry share: the tolerances by precision."""

import pytest
import torch


@pytest.fixture(scope="session")
def tolerance() -> dict[torch.dtype, dict[str, float]]:
    """Relative and absolute (pixels, metres, radians) tolerance of `torch.testing.assert_close`, by dtype."""
    return {torch.float32: {"rtol": 1e-4, "atol": 1e-3}, torch.float64: {"rtol": 1e-9, "atol": 1e-9}}
