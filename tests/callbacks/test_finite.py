from contextlib import nullcontext

import pytest
import torch
from torch import nn

from crossview.callbacks.finite import NonFiniteLossError, StopOnNonFiniteLoss, _diagnose
from crossview.detector.ranks import Ranks
from crossview.dual.criterion import DualCriterion
from tests.tiny import first_batch, loader, quiet_trainer, tiny_module

ILL = 3.25  # camera height in metres by which the spoilt criterion knows a pair


@pytest.fixture
def pairs(pair_root):
    return first_batch(pair_root, 3)


def mark(batch, *numbers):
    """Gives the cameras of these pairs the height of the ill ones."""
    height = batch.cameras.height.clone()
    height[list(numbers)] = ILL
    return batch._replace(cameras=batch.cameras._replace(height=height))


def spoil(module, monkeypatch, spoilt, **change):
    """Changes the named terms of every batch that holds an ill pair and of which `spoilt(cameras)` is true."""
    criterion = module.criterion

    class Spoilt(DualCriterion):
        def __call__(self, output, placements, objects, cameras, *arguments, **settings):
            terms = super().__call__(output, placements, objects, cameras, *arguments, **settings)
            if not bool((cameras.height == ILL).any()):
                return terms
            return (
                {
                    name: term._replace(classification=change[name](term.classification)) if name in change else term
                    for name, term in terms.items()
                }
                if spoilt(cameras)
                else terms
            )

    settings = {name: getattr(criterion, name) for name in criterion.__dataclass_fields__}
    monkeypatch.setattr(module, "criterion", Spoilt(**settings))


def always(cameras):
    return True


def nan(value):
    return value * float("nan")


def infinite(value):
    return value + float("inf")


def nan_gradient(value):
    """The same value, but its gradient is infinity times zero."""
    return value + torch.sqrt((value - value.detach()) * 0.0)


def stopped(module, *batches, **settings):
    """The message of the error that ends the training; the weights must be untouched by then."""
    before = {}
    module.on_train_batch_start = lambda batch, number: before.update(
        {name: tensor.clone() for name, tensor in module.state_dict().items()}
    )
    trainer = quiet_trainer(callbacks=[StopOnNonFiniteLoss()], max_steps=10, **settings)
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.fit(module, loader(*batches))
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert torch.isfinite(tensor).all(), name
    return str(caught.value), trainer


def guilty(message):
    """Pairs and their terms as the message names them."""
    part = message.partition(": ")[2].partition(". The weights")[0]
    return dict(line.removeprefix("pair ").split(": ") for line in part.split("; "))


@pytest.mark.parametrize(
    ("ill", "change", "what"),
    [
        ((1,), {"view_1_to_2": nan}, "the loss is nan"),
        ((0, 2), {"view_1": nan, "view_2_to_1": infinite}, "the loss is nan"),
        ((2,), {"view_2": infinite}, "the loss is inf"),
        ((1,), {"view_2": nan_gradient}, "the gradient's length is nan"),
        ((0, 1), {"view_1": nan_gradient, "view_1_to_2": nan_gradient}, "the gradient's length is nan"),
    ],
    ids=["one pair, one term", "two pairs, two terms", "infinity", "gradient", "gradient of two terms"],
)
def test_names_exactly_the_guilty_pairs_and_terms(ill, change, what, pairs, monkeypatch):
    module = tiny_module()
    spoil(module, monkeypatch, always, **change)
    message, _ = stopped(module, mark(pairs, *ill))
    names = [" / ".join(pairs.names[number]) for number in ill]
    assert guilty(message) == dict.fromkeys(names, ", ".join(change))
    assert message.startswith(f"{what} at step 0: ")


def test_earlier_steps_are_kept(pairs, monkeypatch):
    module = tiny_module()
    spoil(module, monkeypatch, always, view_1=nan)
    message, trainer = stopped(module, pairs, pairs, mark(pairs, 1))
    assert "at step 2: " in message
    assert trainer.global_step == 2


def test_gradients_that_accumulate_are_checked_batch_by_batch(pairs, monkeypatch):
    module = tiny_module()
    spoil(module, monkeypatch, always, view_2=nan_gradient)
    message, _ = stopped(module, pairs, mark(pairs, 2), pairs, accumulate_grad_batches=3)
    assert list(guilty(message)) == [" / ".join(pairs.names[2])]


def test_all_pairs_are_named_if_none_is_guilty_by_itself(pairs, monkeypatch):
    module = tiny_module()
    spoil(module, monkeypatch, lambda cameras: len(cameras.height) > 1, view_1=nan)
    message, _ = stopped(module, mark(pairs, 0))
    assert "nothing in this process by itself, but together" in message
    assert all(" / ".join(names) in message for names in pairs.names)


def test_the_diagnosis_waits_for_no_other_process(pairs, monkeypatch):
    module = tiny_module()
    spoil(module, monkeypatch, always, view_1=nan)
    asked = []

    class Asking(Ranks):
        def total(self, values):
            asked.append(1)
            return values

    monkeypatch.setattr("crossview.base_module.current_ranks", Asking)
    stopped(module, mark(pairs, 0))
    assert len(asked) == 4  # once for each term with a normaliser, by the training step itself


def test_the_diagnosis_asks_no_other_process_for_statistics(pairs):
    module, norm = tiny_module().train(), nn.SyncBatchNorm(3)
    module.add_module("norm", norm)
    module.net.detector.register_forward_pre_hook(lambda _, arguments: (norm(arguments[0].float()), *arguments[1:]))
    module(pairs)
    assert norm.num_batches_tracked == 1
    assert len(_diagnose(module, pairs, nullcontext, lambda value: value is not None)) == len(pairs.names)
    assert norm.num_batches_tracked == 1  # in training it would have counted, and waited for the others


def test_the_diagnosis_is_in_the_precision_of_the_step(pairs):
    module = tiny_module().train()
    seen = []

    def watch(layer, arguments, result):
        seen.append(result.dtype)

    module.net.detector.backbone.get_submodule("conv2_1").register_forward_hook(watch)
    _diagnose(module, pairs, lambda: torch.autocast("cpu", torch.bfloat16), lambda value: value is None)
    assert seen == [torch.bfloat16] * len(pairs.names)


def test_a_healthy_training_goes_on(pairs):
    trainer = quiet_trainer(callbacks=[StopOnNonFiniteLoss()], max_steps=2)
    trainer.fit(tiny_module(), loader(pairs, pairs))
    assert trainer.global_step == 2


@pytest.mark.parametrize("field", ["height", "yaw", "position"])
def test_a_camera_that_is_not_a_number_does_not_reach_the_weights(field, pairs):
    value = getattr(pairs.cameras, field).clone()
    value[1] = float("nan")
    batch = pairs._replace(cameras=pairs.cameras._replace(**{field: value}))
    module = tiny_module()
    try:
        quiet_trainer(callbacks=[StopOnNonFiniteLoss()], max_steps=1).fit(module, loader(batch))
    except NonFiniteLossError as error:
        assert list(guilty(str(error))) == [" / ".join(pairs.names[1])]  # noqa: PT017  # either outcome is fine
    assert all(bool(torch.isfinite(weight).all()) for weight in module.parameters())
