import pytest
import torch

from crossview import schedules
from crossview.build import ConfigError, build
from crossview.data.errors import DataError
from crossview.dual.criterion import DualCriterion

CRITERION = "crossview.dual.criterion.DualCriterion"
STEPS = {"_target_": "crossview.schedules.multi_step", "_partial_": True, "milestones": [1], "gamma": 0.1}


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_arguments_come_from_the_config_and_from_the_call():
    criterion = build({"_target_": CRITERION, "alpha": 2.0, "min_negatives": 1}, "model.loss", min_negatives=7)
    assert isinstance(criterion, DualCriterion)
    assert (criterion.alpha, criterion.min_negatives) == (2.0, 7)


def test_nested_entries_are_built_first_also_in_lists():
    inner = {"_target_": CRITERION, "alpha": 3.0}
    outer = build({"_target_": CRITERION, "weights": dict.fromkeys(DualCriterion().weights, inner)}, "key")
    assert [weight.alpha for weight in outer.weights.values()] == [3.0] * 4
    listed = build({"_target_": CRITERION, "alpha": [1, (inner, {"plain": inner})]}, "key").alpha
    assert listed[0] == 1
    assert listed[1][0].alpha == listed[1][1]["plain"].alpha == 3.0


def test_partial_waits_for_more_arguments():
    schedule = build(STEPS, "scheduler.schedule")
    assert schedule(optimizer(), 10).milestones == {1: 1}


def test_config_is_left_as_it_is():
    weights = dict(DualCriterion().weights)
    config = {"_target_": CRITERION, "weights": weights}
    before = {**config, "weights": dict(weights)}
    build(config, "key", alpha=2.0)
    assert config == before


@pytest.mark.parametrize(
    "target",
    [
        "os.system",  # another package
        "builtins.eval",
        "crossview_evil.code",  # begins like an allowed one
        "torch.load",  # a neighbour of an allowed one
        "torch.optim.optimizer.torch.load",  # through what an allowed module has imported
        "crossview.run.torch.load",
        "crossview.run.instantiate",  # imported there, defined elsewhere
        "crossview.run.json.loads",
        "crossview.build.ALLOWED_PACKAGES",  # cannot be called
        "crossview.nowhere.Thing",  # does not exist
        "crossview.schedules.nothing",
        "crossview.",
        "crossview",
        "",
        None,
        7,
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda bad: bad,
        lambda bad: {"_target_": CRITERION, "alpha": bad},
        lambda bad: {"_target_": CRITERION, "alpha": [1, {"x": ({"y": [bad]},)}]},
    ],
    ids=["itself", "nested", "deep inside lists"],
)
def test_foreign_targets_are_refused(target, wrap):
    with pytest.raises(ConfigError, match=r"key.*\._target_: found .*expected a class or function of crossview\.\*"):
        build(wrap({"_target_": target}), "key")


def test_nothing_is_called_if_any_target_is_refused(monkeypatch):
    called = []

    def constant():
        called.append(True)

    constant.__module__ = "crossview.schedules"
    monkeypatch.setattr(schedules, "constant", constant)
    good = {"_target_": "crossview.schedules.constant"}
    build(good, "key")
    assert called == [True]
    with pytest.raises(ConfigError, match=r"key\.last\[0\]"):
        build({**good, "first": good, "last": [{"_target_": "os.system"}]}, "key")
    assert called == [True]


def test_interpolations_stay_text():
    # OmegaConf would read the environment, or make a container with a target of its own.
    for text in ("${oc.env:HOME}", "${oc.create:{_target_:os.getcwd}}"):
        assert build({"_target_": CRITERION, "alpha": text}, "key").alpha == text


def test_missing_target_lists_the_keys():
    with pytest.raises(ConfigError, match=r"model\.loss: found keys \['alpha', 'weights'\], expected a _target_"):
        build({"weights": {}, "alpha": 1}, "model.loss")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"alhpa": 1}, r"^model\.loss: .*unexpected keyword argument 'alhpa'"),
        ({"weights": {"view_3": 1.0}}, r"^model\.loss: .*found \['view_3'\]"),
    ],
)
def test_what_the_target_refuses_is_said_with_the_key(config, words):
    with pytest.raises(ConfigError, match=words):
        build({"_target_": CRITERION, **config}, "model.loss")


def test_what_a_partial_refuses_later_is_said_with_the_key():
    make = build({"_target_": "torch.optim.SGD", "_partial_": True, "lr": -1.0}, "optimizer")
    with pytest.raises(ConfigError, match=r"^optimizer: Invalid learning rate: -1"):
        make([torch.nn.Parameter(torch.zeros(1))])


def test_errors_about_files_pass_as_they_are():
    with pytest.raises(DataError, match=r"^nowhere\.h5") as caught:
        build({"_target_": "crossview.detector.vgg.VGG16", "weights": "nowhere.h5"}, "model.backbone")
    assert type(caught.value) is DataError
