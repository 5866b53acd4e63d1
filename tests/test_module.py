import logging
import shutil

import pytest
import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from crossview.build import ConfigError
from crossview.detector.band import Band, BandChoice
from crossview.detector.detections import ViewDetections
from crossview.detector.preprocessing import Preprocessing
from crossview.detector.ranks import Ranks
from crossview.detector.vgg import VGG16
from crossview.dual.placed import PlacedDetections
from crossview.module import CrossViewModule
from crossview.run import train
from tests.tiny import data_module, first_batch, loader, quiet_trainer, tiny_config, tiny_module

TERMS = ["view_1", "view_2", "view_1_to_2", "view_2_to_1", "reid"]
METRICS = ["detection/ap50", "detection/voc07_ap", "cross/ap50", "cross/geometry_ap50", "cross/center_px"]
FIRST = "net.detector.backbone.conv1_1.weight"


@pytest.fixture(scope="module")
def pairs(pair_root):
    return first_batch(pair_root, 4)


def validated(module, *batches):
    return quiet_trainer().validate(module, loader(*batches), verbose=False)[0]


def select(batch, *numbers):
    """Some pairs of a batch, as a batch."""
    rows = torch.tensor(numbers)
    fields = {name: getattr(batch, name)[rows] for name in ("images", "panorama_size", "view_index", "pair_index")}
    nested = {
        name: type(getattr(batch, name))(*(field[rows] for field in getattr(batch, name)))
        for name in ("objects", "cameras")
    }
    return batch._replace(**fields, **nested, names=[batch.names[number] for number in numbers])


def detect_annotations(batch, output):
    """Detects the annotated objects, every third one at a wrong place, with scores of their own."""
    boxes = batch.objects.boxes.clone()
    wrong = batch.objects.ids % 3 == 0
    boxes[wrong] += boxes.new_tensor([40.0, 0.0, 40.0, 0.0])
    present = batch.objects.present
    scores = (batch.objects.ids % 97 + 1) / 100 * present
    detections = ViewDetections(boxes, scores, batch.objects.labels * present, present)
    there = batch.objects.boxes.flip(1) + 1.0  # placed beside whatever has the same number there
    return detections, PlacedDetections(there, present, there, present, torch.full_like(scores, 0.9))


# --- optimizer ---


def test_weight_decay_is_on_weights_of_convolutions_and_linear_layers_only(pairs):
    module = tiny_module("model.share_weights=false", "model.weight_decay=0.003")
    trainer = quiet_trainer()
    trainer.fit(module, loader(select(pairs, 0)))
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = trainer.optimizers[0].param_groups
    found = [(names[id(weight)], group["weight_decay"]) for group in groups for weight in group["params"]]
    assert sorted(name for name, _ in found) == sorted(names.values())  # each of them once
    layers = [name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    decayed = {name for name, decay in found if decay == 0.003}
    spared = {name for name, decay in found if decay == 0.0}
    assert decayed == {f"{name}.weight" for name in layers}
    assert decayed | spared == set(names.values())
    assert {name.rpartition(".")[2] for name in spared} == {
        "bias",
        "scale",
        "log_scale",
    }  # of the L2 normalisation and of embeddings


def test_shipped_weight_decay_is_that_of_the_paper():
    assert tiny_module().hparams["weight_decay"] == 0.0005


def test_one_cycle_runs_over_the_whole_training(pairs):
    module = tiny_module("optimizer.lr=1e-3", "scheduler=one_cycle", "scheduler.schedule.end_factor=0.02")
    trainer = quiet_trainer(max_epochs=2, max_steps=-1)
    trainer.fit(module, loader(select(pairs, 0), select(pairs, 1)))
    assert trainer.global_step == 4
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.02e-3)


def test_one_cycle_without_an_end_is_refused(pairs):
    module = tiny_module("scheduler=one_cycle")
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs or trainer\.max_steps"):
        quiet_trainer(max_epochs=-1, max_steps=-1, max_time="00:00:00:30").fit(module, loader(pairs))


def test_steps_are_counted_in_epochs(pairs, monkeypatch):
    overrides = ["scheduler=steps", "scheduler.schedule.milestones=[1,3]", "optimizer.lr=1e-3"]
    module = tiny_module(*overrides)
    rates = []
    monkeypatch.setattr(
        module, "on_train_epoch_start", lambda: rates.append(module.trainer.optimizers[0].param_groups[0]["lr"])
    )
    one = select(pairs, 0)
    quiet_trainer(max_epochs=4, max_steps=-1).fit(module, loader(one, one))
    assert rates == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])


def step_of(batches, **settings):
    """What one optimizer step with learning rate 1 changes, as one vector."""
    plain = ["optimizer=sgd", "optimizer.lr=1", "scheduler=constant", "model.weight_decay=0"]
    module = tiny_module(*plain, "model.projection_lr_factor=1", "model.loss.box_jitter=0")
    before = [weight.detach().clone() for weight in module.parameters()]
    trainer = quiet_trainer(**settings)
    trainer.fit(module, loader(*batches))
    assert trainer.global_step == 1
    changes = [weight.detach() - start for weight, start in zip(module.parameters(), before, strict=True)]
    return torch.cat([change.flatten() for change in changes])


def test_accumulated_batches_make_one_step_of_their_mean(pairs):
    one, other = select(pairs, 0), select(pairs, 1, 2)
    mean = (step_of([one]) + step_of([other])) / 2
    together = step_of([one, other], accumulate_grad_batches=2)
    assert float((together - mean).norm()) < 1e-4 * float(mean.norm())


def test_long_gradients_are_clipped(pairs):
    assert float(step_of([pairs]).norm()) > 1
    assert float(step_of([pairs], gradient_clip_val=0.5).norm()) == pytest.approx(0.5, rel=1e-4)
    assert tiny_config().trainer.gradient_clip_val == 10


# --- checkpoints ---


def plain(value):
    """Whether there is nothing in it but Python's own containers, numbers and texts."""
    if isinstance(value, dict):
        return type(value) is dict and all(plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


@pytest.fixture(scope="module")
def started_from_weights(tmp_path_factory, pairs):
    """The checkpoint of a run that started from a weights file, which is gone by now; and what the run computed."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    source = VGG16(channels=(4, 4, 8, 8, 8), fc_channels=16)
    caffe = dict(zip([0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33], source.convolutions(), strict=True))
    weights = {
        f"{number}.{kind}": source.get_parameter(f"{layer}.{kind}")
        for number, layer in caffe.items()
        for kind in ("weight", "bias")
    }
    torch.save({name: tensor.detach() for name, tensor in weights.items()}, folder / "vgg16_reducedfc.pth")
    module = tiny_module(f"model.backbone.weights={folder}/vgg16_reducedfc.pth", "model.backbone.std=[2,3,4]")
    trainer = quiet_trainer()
    trainer.fit(module, loader(pairs))
    trainer.save_checkpoint(folder / "last.ckpt")
    (folder / "vgg16_reducedfc.pth").unlink()
    return folder / "last.ckpt", module


def test_checkpoint_is_plain_data(started_from_weights):
    path, _ = started_from_weights
    content = torch.load(path, weights_only=True)
    assert plain(content["hyper_parameters"]), content["hyper_parameters"]
    assert b"omegaconf" not in path.read_bytes()


def test_hyper_parameters_given_by_hydra_are_plain():
    def containers(value):
        yield value
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from containers(item)

    found = list(containers(dict(tiny_module().hparams)))
    assert not [value for value in found if isinstance(value, DictConfig | ListConfig)]


def test_checkpoint_loads_without_its_weights_file(started_from_weights, pairs):
    path, module = started_from_weights
    loaded = CrossViewModule.load_from_checkpoint(path).eval()
    preprocessing = loaded.net.detector.backbone.preprocessing
    assert preprocessing == Preprocessing((123, 117, 104), (2, 3, 4), "rgb")
    assert preprocessing == module.net.detector.backbone.preprocessing
    with torch.no_grad():
        assert torch.equal(loaded(pairs).logits, module.eval()(pairs).logits)


def test_hyper_parameters_of_the_log_still_name_the_weights_file(started_from_weights):
    _, module = started_from_weights
    assert module.hparams_initial["backbone"]["weights"].endswith("vgg16_reducedfc.pth")
    assert module.hparams["backbone"]["weights"] is None


def test_checkpoint_cannot_name_foreign_code(started_from_weights, tmp_path):
    path = tmp_path / "evil.ckpt"
    shutil.copy(started_from_weights[0], path)
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["loss"]["weights"] = [{"_target_": "os.getcwd"}]
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"model\.loss\.weights\[0\]\._target_: found 'os\.getcwd'"):
        CrossViewModule.load_from_checkpoint(path)


def test_norms_that_activate_cannot_be_exchanged():
    module = tiny_module()
    module.add_module("norm", nn.BatchNorm2d(3))
    module.check_norms()
    module.add_module("other", BatchNormAct2d(3))
    with pytest.raises(ConfigError, match=r"trainer\.sync_batchnorm: found true, but other is a BatchNormAct2d"):
        module.check_norms()


# --- one tower or two ---


@pytest.mark.parametrize("shared", [True, False])
def test_share_weights(shared, pairs, tmp_path):
    module = tiny_module(f"model.share_weights={shared}")
    towers = {name.split(".")[1] for name, _ in module.named_parameters() if name.startswith("net.detector")}
    assert towers == ({"detector"} if shared else {"detector", "detector_2"})
    trainer = quiet_trainer()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    trainer.fit(module, loader(pairs))
    changed = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    for tower in towers:  # each of them learns
        assert f"net.{tower}.backbone.conv1_1.weight" in changed
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    loaded = CrossViewModule.load_from_checkpoint(tmp_path / "x.ckpt").eval()
    with torch.no_grad():
        assert torch.equal(loaded(pairs).logits, module.eval()(pairs).logits)


# --- what is logged ---


def test_names_of_the_training(pairs):
    trainer = quiet_trainer()
    trainer.fit(tiny_module(), loader(pairs))
    expected = {"train/lr", "train/loss/total", *(f"train/loss/{term}" for term in TERMS)}
    assert set(trainer.callback_metrics) == expected


@pytest.mark.parametrize("split", ["val", "test"])
def test_names_of_an_evaluation(split, pairs):
    trainer = quiet_trainer()
    evaluate = trainer.validate if split == "val" else trainer.test
    found = evaluate(tiny_module(), loader(pairs), verbose=False)[0]
    assert set(found) == {f"{split}/{name}" for name in [*METRICS, "loss/total", *(f"loss/{term}" for term in TERMS)]}


def test_total_is_the_weighted_sum_of_the_terms(pairs):
    weights = {"view_1": 1.0, "view_2": 0.5, "view_1_to_2": 2.0, "view_2_to_1": 0.0, "reid": 0.3}
    module = tiny_module(*(f"model.loss.weights.{name}={value}" for name, value in weights.items()))
    found = validated(module, pairs)
    parts = [weights[name] * found[f"val/loss/{name}"] for name in TERMS]
    assert found["val/loss/total"] == pytest.approx(sum(parts), rel=1e-5)
    assert all(found[f"val/loss/{name}"] > 0 for name in TERMS)


def test_without_an_appearance_head_there_are_four_terms(pairs):
    found = validated(tiny_module("model.appearance=null"), pairs)
    assert {name for name in found if name.startswith("val/loss/")} == {
        "val/loss/total",
        *(f"val/loss/{term}" for term in TERMS[:4]),
    }


# --- evaluation ---


def test_an_evaluation_draws_no_random_numbers(pairs):
    module = tiny_module()
    before = torch.get_rng_state()
    module.eval()
    with torch.no_grad():
        module.losses(pairs, module(pairs))
    assert torch.equal(torch.get_rng_state(), before)


def test_metrics_start_anew_in_every_evaluation(pairs, monkeypatch):
    module = tiny_module()
    monkeypatch.setattr(module, "detect", detect_annotations)
    both, first = validated(module, pairs), validated(module, select(pairs, 0))
    assert validated(module, pairs) == both
    assert both["val/detection/ap50"] != first["val/detection/ap50"]  # so that leftovers would be seen
    assert 0 < both["val/detection/ap50"] < 1


def test_metrics_do_not_depend_on_the_batch_size(pairs, monkeypatch):
    module = tiny_module()
    monkeypatch.setattr(module, "detect", detect_annotations)
    together = validated(module, pairs)
    for parts in ([(0,), (1,), (2,), (3,)], [(0, 1, 2), (3,)], [(3, 1), (2, 0)]):
        found = validated(module, *(select(pairs, *numbers) for numbers in parts))
        for name in METRICS:
            assert found[f"val/{name}"] == together[f"val/{name}"], (name, parts)
    assert together["val/cross/center_px"] > 0


def test_losses_of_batches_are_averaged_by_their_numbers_of_pairs(pairs):
    module = tiny_module()
    parts = [select(pairs, 0, 1, 2), select(pairs, 3)]
    single = [validated(module, part)["val/loss/total"] for part in parts]
    assert validated(module, *parts)["val/loss/total"] == pytest.approx((3 * single[0] + single[1]) / 4, rel=1e-5)


def test_an_evaluation_never_waits_for_other_processes(pairs, monkeypatch):
    module = tiny_module()

    class Asking(Ranks):
        def gather(self, values):
            raise AssertionError("the other process may have no batch left")

    monkeypatch.setattr("crossview.base_module.current_ranks", Asking)
    validated(module, pairs)
    with pytest.raises(AssertionError):  # a training step does
        quiet_trainer().fit(module, loader(pairs))


# --- the same seed ---


def weights_after_three_steps(root, folder, *overrides):
    settings = ["trainer.max_steps=3", "trainer.limit_val_batches=0", "test=false", "logger=none", "callbacks=none"]
    overrides = (*settings, f"data.root={root}", f"run_dir={folder}", "data.batch_size=2", *overrides)
    config = tiny_config(*overrides)
    caught = []
    logging.disable(logging.WARNING)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CrossViewModule, "on_train_end", lambda module: caught.append(module))
            train(config)
    finally:
        logging.disable(logging.NOTSET)
    return caught[0].state_dict()


@pytest.fixture(scope="module")
def reference(pair_root, tmp_path_factory):
    return weights_after_three_steps(pair_root, tmp_path_factory.mktemp("reference"), "seed=3")


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        (["seed=3"], True),
        (["seed=3", "data.num_workers=2"], True),
        (["seed=4"], False),
    ],
    ids=["same seed", "two workers", "another seed"],
)
def test_seed_decides_everything(overrides, same, reference, pair_root, tmp_path):
    found = weights_after_three_steps(pair_root, tmp_path, *overrides)
    equal = {name for name, tensor in reference.items() if torch.equal(tensor, found[name])}
    if same:
        assert equal == set(reference)
    else:
        assert FIRST not in equal


def test_another_order_of_the_pairs_gives_other_weights(reference, pair_root, tmp_path):
    found = weights_after_three_steps(pair_root, tmp_path, "seed=3", "data.seed=4")
    assert not torch.equal(found[FIRST], reference[FIRST])


def test_batches_of_the_data_module_are_what_the_module_takes(pair_root):
    data = data_module(pair_root, "data.batch_size=3")
    batch = next(iter(data.val_dataloader()))
    assert tiny_module()(batch).logits.shape[:2] == (2, 2)


# --- the band of rows that a training step looks at ---


def bands_seen(module, batch, monkeypatch, steps=3):
    """What the network is shown of the batch in steps of a training."""
    seen: list[Band | None] = []
    forward = module.net.forward

    def noting(images, band=None):
        seen.append(band)
        return forward(images, band)

    monkeypatch.setattr(module.net, "forward", noting)
    quiet_trainer(max_steps=steps).fit(module, loader(*[batch] * steps), loader(batch))
    return seen


def test_a_training_step_looks_at_a_band_and_a_validation_at_everything(pairs, monkeypatch):
    module = tiny_module("model.train_band=0.8")
    boxes = pairs.objects.boxes[pairs.objects.present]
    seen = bands_seen(module, pairs, monkeypatch)
    first, *bands, last = seen
    assert first is last is None  # validations
    assert len(bands) == 3
    for band in bands:
        assert band.last - band.first == 240
        assert band.first <= boxes[:, 1].min()
        assert boxes[:, 3].max() <= band.last
    assert {parameter.isfinite().all().item() for parameter in module.parameters()} == {True}


@pytest.mark.parametrize("overrides", [["model.train_band=null"], ["model.train_band=0.1"]], ids=["off", "too small"])
def test_a_training_step_looks_at_whole_images(overrides, pairs, monkeypatch):
    assert bands_seen(tiny_module(*overrides), pairs, monkeypatch) == [None] * 5


def test_rows_outside_the_band_do_not_change_a_step(pairs, monkeypatch):
    band = Band(32, 272)
    monkeypatch.setattr(BandChoice, "draw", lambda self, boxes, present: band)
    others = pairs.images.clone()
    others[..., : band.first, :] = 255 - others[..., : band.first, :]
    others[..., band.last :, :] = 255 - others[..., band.last :, :]
    losses = []
    for images in (pairs.images, others):
        trainer = quiet_trainer()
        pl.seed_everything(0)
        trainer.fit(tiny_module("model.train_band=0.8"), loader(pairs._replace(images=images)))
        losses.append(float(trainer.callback_metrics["train/loss/total"]))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("share", [0, 53])
def test_a_band_is_a_share_of_the_rows(share):
    with pytest.raises(
        InstantiationException, match=f"model.train_band: found {share}, expected null or a share of the rows"
    ):
        tiny_module(f"model.train_band={share}")


def test_backbones_whose_maps_are_not_in_line_see_whole_images(monkeypatch):
    monkeypatch.setattr(VGG16, "row_strides", None)
    with pytest.raises(
        InstantiationException, match=r"model\.train_band: found 0\.5, but VGG16 can only look at whole images"
    ):
        tiny_module("model.train_band=0.5")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), torch.contiguous_format),
        (("model.backbone.winograd=false",), torch.channels_last),
        (("model.channels_last=true",), torch.channels_last),
    ],
)
def test_the_order_of_memory_is_that_of_its_network(overrides, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    detector = tiny_module(*overrides).net.detector
    assert detector.memory_format is expected
    assert detector.backbone.get_submodule("fc6").get_parameter("weight").is_contiguous(memory_format=expected)
