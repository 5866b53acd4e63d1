"""Scenes of micro data, as a test run of the tiny network hands them over, or with perfect detections."""

from functools import cache

import numpy as np

from crossview.evaluation.collect import CollectScenes
from tests.tiny import data_module, quiet_trainer, tiny_module

SETTINGS = {"class_names": ["tree"], "split": "test", "losses": {"test/loss/total": 1.5}, "detections": "network"}


def collected(root, *overrides, module=None):
    """The scenes of the test split, and the metrics that Lightning logged."""
    collect = CollectScenes()
    trainer = quiet_trainer(callbacks=[collect])
    module = tiny_module(*overrides) if module is None else module
    trainer.test(module, datamodule=data_module(root, *overrides), verbose=False)
    return collect.scenes, {name: float(value) for name, value in trainer.callback_metrics.items()}


@cache
def cached(root):
    """As `collected`, once; scenes are never changed."""
    return collected(root)


def without_detections(scene):
    nothing = np.zeros(0, np.int64)
    return scene._replace(views=tuple(v._replace(detections=v.detections.take(nothing)) for v in scene.views))


def same(first, second):
    """Whether two nested tuples of arrays are the same to the last bit."""
    if isinstance(first, tuple):
        assert type(first) is type(second)
        return all(same(a, b) for a, b in zip(first, second, strict=True))
    if first is None or second is None:
        return first is None and second is None
    a, b = np.asarray(first), np.asarray(second)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
