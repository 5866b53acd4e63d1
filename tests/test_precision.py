"""Mixed precision, on the CPU with bfloat16: the detectors compute in it, and nothing else does."""

import json
import math
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from crossview.build import ConfigError
from crossview.detector.ssd import SSD, L2Normalization
from crossview.run import train
from tests.conftest import QUICK
from tests.tiny import data_module, first_batch, loader, quiet_trainer, tiny_config, tiny_module

QUIET = ["callbacks.progress=null", "callbacks.summary=null", "logger=none"]


class HalfPrecision(TorchDispatchMode):
    """Notes which operations give 16-bit floats, apart from those inside of the detectors."""

    def __init__(self):
        super().__init__()
        self.found: set[str] = set()
        self.seen = 0
        self.in_detector = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        values = result if isinstance(result, tuple | list) else [result]
        half = any(isinstance(v, torch.Tensor) and v.dtype in (torch.bfloat16, torch.float16) for v in values)
        self.seen += half and self.in_detector
        if half and not self.in_detector:
            self.found.add(str(func))
        return result


def losses_and_gradient(module, batch, precision, *watched):
    """The losses of a training step, the gradient, and what ``watched`` methods compute."""
    note = HalfPrecision()
    inside = SSD.forward

    def detector(self, images, band):
        note.in_detector = True
        try:
            return inside(self, images, band)
        finally:
            note.in_detector = False

    def noted(method):
        def call(*arguments, **named):
            with note:
                return method(*arguments, **named)

        return call

    slopes = []
    with ExitStack() as stack:
        stack.enter_context(patch.object(SSD, "forward", detector))
        for name in watched:
            stack.enter_context(patch.object(module, name, noted(getattr(module, name))))

        def hook():
            slopes.append(torch.cat([weight.grad.flatten() for weight in module.parameters()]))

        stack.enter_context(patch.object(module, "on_after_backward", hook))
        trainer = quiet_trainer(precision=precision, gradient_clip_val=None)
        trainer.fit(module, loader(batch))
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if "loss" in name}
        trainer.validate(module, loader(batch), verbose=False)
    return found, slopes[0], note


@pytest.mark.parametrize("overrides", [(), ("model.share_weights=false", "model.normalize_first_map=false")])
def test_only_the_detectors_compute_in_half_precision(overrides, pair_root):
    batch = first_batch(pair_root, 2, overrides=QUICK)
    exact, exact_slope, _ = losses_and_gradient(tiny_module(*QUICK, *overrides), batch, "32-true")
    watched = ("forward", "losses", "evaluate_batch")
    mixed, mixed_slope, note = losses_and_gradient(tiny_module(*QUICK, *overrides), batch, "bf16-mixed", *watched)
    assert note.found == set()
    assert note.seen > 20
    assert mixed == pytest.approx(exact, rel=0.02)
    assert mixed != exact
    assert mixed_slope.dtype == torch.float32
    similarity = torch.nn.functional.cosine_similarity(mixed_slope, exact_slope, dim=0)
    assert float(similarity) > 0.99


def test_a_whole_run_in_mixed_precision(pair_root, tmp_path):
    settings = ["trainer.precision=bf16-mixed", "trainer.max_epochs=1", f"data.root={pair_root}", f"run_dir={tmp_path}"]
    train(tiny_config(*settings, *QUIET, *QUICK))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    losses = {name: value for name, value in metrics.items() if "/loss/" in name}
    assert len(losses) == 18
    assert all(math.isfinite(value) for value in losses.values())
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert {value.dtype for name, value in state.items() if name.endswith("weight")} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_precisions_without_single_precision_are_refused(precision, pair_root):
    data = data_module(pair_root)
    with pytest.raises(
        ConfigError, match=r"trainer\.precision: found .*, expected one of 32-true, 16-mixed, bf16-mixed"
    ):
        quiet_trainer(precision=precision).fit(tiny_module(), data)


def test_normalisation_of_half_precision_neither_overflows_nor_divides_by_zero():
    features = torch.full((1, 2, 1, 2), 1e-6)
    features[..., 1] = 6e4  # whose square is beyond 16 bits
    found = L2Normalization(2, 20.0)(features.half())
    torch.testing.assert_close(found, torch.full((1, 2, 1, 2), 20.0 / math.sqrt(2)), rtol=1e-2, atol=0)
