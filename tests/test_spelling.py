import sys

import pytest

from crossview.command import CONFIG_DIR
from crossview.spelling import hints, run_with_hints


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("optimiser.lr=1", ["optimiser.lr does not exist; did you mean optimizer.lr?"]),  # a group
        ("trainer.max_epoch=1", ["trainer.max_epoch does not exist; did you mean trainer.max_epochs?"]),  # a key
        ("batch_size=3", ["batch_size does not exist; did you mean data.batch_size?"]),  # the way to it forgotten
        ("modell=ssd300", ["modell does not exist; did you mean model?"]),
        ("data/augmnt=none", ["data/augmnt does not exist; did you mean data/augment?"]),  # a group within a group
        ("optimizer.learning_rate=1", ["optimizer.learning_rate does not exist; optimizer has betas, eps, lr"]),
        ("optimizer=sgd optimizer.momentun=1", ["optimizer.momentun does not exist; did you mean optimizer.momentum?"]),
        ("optimizer=sgd,adam seeed=1", ["seeed does not exist; did you mean seed?"]),  # a sweep
        (
            "sed=1 data.rot=x",
            ["sed does not exist; did you mean seed?", "data.rot does not exist; did you mean data.root?"],
        ),
        ("model.projection.learned=true", ["model.projection.learned does not exist; did you mean model.projection?"]),
        ("xyzzy=1", []),  # like nothing
        ("optimizer.lr=1 data.root=a=b seed=x -m", []),  # all of them exist
        ("model.optimizer.lr=1", []),  # through an interpolation
        ("+new.key=1 ~data.root hydra.run.dir=x --cfg job", []),  # not looked at
        ("model=ssd301 sed=1", []),  # Hydra's own message lists the choices
    ],
)
def test_hints(arguments, expected):
    assert hints(arguments.split(), CONFIG_DIR, "train") == expected


@pytest.mark.parametrize(("code", "shown"), [(1, True), (0, False), (None, False)])
def test_hints_are_printed_if_the_command_fails(code, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "sed=1"])
    with pytest.raises(SystemExit) as caught:
        run_with_hints(lambda: sys.exit(code), CONFIG_DIR, "train")
    assert caught.value.code == code
    assert ("did you mean seed?" in capsys.readouterr().err) is shown


def test_a_command_that_works_is_left_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "sed=1"])
    run_with_hints(lambda: None, CONFIG_DIR, "train")
    assert capsys.readouterr().err == ""
