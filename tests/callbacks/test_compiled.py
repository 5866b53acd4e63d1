"""Compiled detectors; the compilers here need no C++."""

import pytest
import torch
from torch._dynamo import register_backend

from crossview.callbacks.compiled import CompiledDetectors
from crossview.checkpoints import load_module
from crossview.detector.band import Band
from tests.conftest import QUICK
from tests.tiny import first_batch, loader, quiet_trainer, tiny_config, tiny_module

calls: list[str] = []


@register_backend
def counting(graph, inputs):
    calls.append("compiled")
    return graph.forward


@register_backend
def broken(graph, inputs):
    raise RuntimeError("no compiler here\nsecond line")


@pytest.fixture(autouse=True)
def fresh():
    calls.clear()
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def trained(batch, *callbacks, overrides=()):
    module = tiny_module(*QUICK, *overrides)
    trainer = quiet_trainer(callbacks=list(callbacks))
    trainer.fit(module, loader(batch))
    return module, trainer


@pytest.mark.parametrize("overrides", [[], ["model.share_weights=false"]], ids=["one tower", "two towers"])
def test_a_compiled_run_learns_the_same_and_saves_the_same_names(overrides, pair_root, tmp_path):
    # Compiled convolutions are direct ones, so the plain ones have to be, to round alike.
    overrides = [*overrides, "model.backbone.winograd=false"]
    batch = first_batch(pair_root, 2, overrides=QUICK)
    plain, _ = trained(batch, overrides=overrides)
    compiled, trainer = trained(batch, CompiledDetectors("default", "counting"), overrides=overrides)
    assert calls
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)
    trainer.save_checkpoint(tmp_path / "compiled.ckpt")
    module = load_module(tmp_path / "compiled.ckpt")
    assert all("forward" not in vars(detector) for detector in module.detectors())
    # It goes on without, and with again.
    for callbacks in ([], [CompiledDetectors("default", "counting")]):
        more = quiet_trainer(callbacks=callbacks, max_steps=2)
        more.fit(
            tiny_module(*QUICK, *overrides),
            loader(batch, batch),
            ckpt_path=tmp_path / "compiled.ckpt",
            weights_only=True,
        )
        assert more.global_step == 2


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "crossview.callbacks.compiled"]


def test_where_compiling_fails_one_warning_says_so_and_the_run_goes_on(pair_root, caplog):
    batch = first_batch(pair_root, 2, overrides=QUICK)
    plain, _ = trained(batch)
    module, trainer = trained(batch, CompiledDetectors("default", "broken"))
    trainer.validate(module, loader(batch), verbose=False)
    (warning,) = warnings_of(caplog)
    assert "SSD cannot be compiled here and goes on without" in warning
    assert "no compiler here" in warning
    assert "callbacks.compile.mode=null" in warning
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in module.state_dict().items())


def test_an_error_of_the_network_is_not_blamed_on_the_compiler(pair_root, caplog):
    module, _ = trained(first_batch(pair_root, 1, overrides=QUICK), CompiledDetectors("default", "counting"))
    with pytest.raises(ValueError, match="given to a network for"):
        module.detectors()[0](torch.zeros(1, 3, 10, 10))
    assert warnings_of(caplog) == []


def test_nothing_is_compiled_by_default(pair_root):
    settings = tiny_config().callbacks.compile
    assert settings.mode is None
    module, _ = trained(first_batch(pair_root, 1, overrides=QUICK), CompiledDetectors(settings.mode, settings.backend))
    assert all("forward" not in vars(detector) for detector in module.detectors())


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"callbacks\.compile\.mode: found fast, expected null or one of default"):
        CompiledDetectors("fast")


def test_bands_at_other_places_are_not_compiled_anew(pair_root, caplog):
    # torch.compile gives up a function after eight versions of it.
    module = tiny_module(*QUICK, "model.backbone.winograd=false")
    images = first_batch(pair_root, 1, overrides=QUICK).images.flatten(0, 1)
    detector = module.detectors()[0].eval()
    bands = [Band(first, first + 80) for first in range(0, 80, 16)]
    CompiledDetectors("default", "counting").on_fit_start(quiet_trainer(), module)
    assert "forward" in vars(detector)
    with torch.no_grad():
        for band in (*bands, None):
            wanted = type(detector).forward(detector, images, band)
            torch.testing.assert_close(detector(images, band).logits, wanted.logits, rtol=1e-4, atol=1e-5)
    assert 1 < len(calls) <= 4
    assert "cannot be compiled" not in caplog.text
