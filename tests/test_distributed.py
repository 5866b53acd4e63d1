"""Training by two processes over gloo; this file is also the program of each of them (see the end)."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from crossview.checkpoints import load_module
from crossview.detector.ranks import current_ranks
from tests.conftest import QUICK, TINY, command_environment
from tests.data.make_voc import ANNOTATIONS, IMAGE_SETS, write_pair_dataset
from tests.tiny import data_module, quiet_trainer, tiny_module
from tests.two_processes import outputs_of_two

TIME_LIMIT_S = 240
NETWORKS = {
    "one tower": ["model.loss.box_jitter=0"],
    "two towers": ["model.share_weights=false", "model.loss.box_jitter=0"],
    "pure geometry": ["projection=geometry", "model.appearance=null"],
    "single views": ["task=single"],
}
# Rows of the batch of four without any object; rank 0 has the first two.
EMPTY = {"objects everywhere": [], "none in rank 1": [2, 3], "none at all": [0, 1, 2, 3]}


def test_two_ranks_have_the_gradients_of_one(pair_root, tmp_path):
    program = [sys.executable, __file__, str(tmp_path / "meeting"), str(pair_root)]
    outputs = outputs_of_two(program, command_environment(tmp_path / "cache"), TIME_LIMIT_S)
    found = json.loads(outputs[0].splitlines()[-1])
    assert list(found) == [f"{network}, {where}" for network in NETWORKS for where in EMPTY]
    for name, (error, worst, size, loss, expected) in found.items():
        assert size > 0.1, name
        assert error < 1e-5 * size, name
        # Of the first layers' small gradients, sums over all pixels that nearly cancel, rounding leaves less.
        assert worst < 1e-4, name
        assert loss == pytest.approx(expected, rel=1e-5), name


class Step(nn.Module):
    """A training step as a module, which is what DDP takes."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, batch, ranks):
        return self.module.losses(batch, self.module(batch), ranks)[0]


def compare(step, whole, share):
    """Length of the gradients' difference, its largest share in a weight's own, length of the gradient, both losses."""
    step.zero_grad()
    loss = step(share, current_ranks())
    loss.backward()
    own_loss = float(current_ranks().total(loss)) / 2
    if current_ranks().rank > 0:
        return None
    module = step.module.module
    found = {name: weight.grad.clone() for name, weight in module.named_parameters()}
    module.zero_grad()
    expected, _ = module.losses(whole, module(whole))
    expected.backward()
    errors = {name: float((found[name] - weight.grad).norm()) for name, weight in module.named_parameters()}
    sizes = {name: float(weight.grad.norm()) for name, weight in module.named_parameters()}
    worst = max(error / max(sizes[name], 1e-3) for name, error in errors.items())
    return math.hypot(*errors.values()), worst, math.hypot(*sizes.values()), own_loss, float(expected.detach())


def main(meeting, root, rank):
    """Compares every network and kind of batch; a weight without a gradient would be an error of DDP."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=TIME_LIMIT_S / 2)
    )
    results = {}
    for network, overrides in NETWORKS.items():
        module = tiny_module(*QUICK, *overrides)
        if "task=single" not in overrides:  # equally hard negatives, of which either may be taken
            nn.init.normal_(module.net.projection.output.weight, std=0.1)
        dataset = data_module(root, *QUICK, *overrides).dataset("train")
        samples = [dataset[number] for number in range(4)]
        step = DistributedDataParallel(Step(module))
        for where, empty in EMPTY.items():
            batches = []
            for rows in (range(4), range(2 * rank, 2 * rank + 2)):
                batch = dataset.collate([samples[row] for row in rows])
                present = batch.objects.present.clone()
                present[[row in empty for row in rows]] = False
                batches.append(batch._replace(objects=batch.objects._replace(present=present)))
            results[f"{network}, {where}"] = compare(step, *batches)
    print(json.dumps(results))
    distributed.destroy_process_group()


# The command


def start(*arguments, cwd, torchrun=False):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"] if torchrun else []
    call = [sys.executable, *launcher, "-m", "crossview.train", *arguments]
    environment = command_environment(cwd / "cache")
    return subprocess.run(
        call, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
    )


def ending(name, step, number, rank, folder):
    entry = f"_target_:tests.sudden_end.SuddenEnd,step:{step},signal:{int(number)},marker:{folder}/{name},rank:{rank}"
    return f"+callbacks.{name}={{{entry}}}"


def forget_objects(root, split, number):
    """Takes all objects from a pair."""
    for view in (root / IMAGE_SETS / f"{split}.txt").read_text().splitlines()[number].split():
        path = root / ANNOTATIONS / f"{view}.xml"
        text, count = re.subn(r"<object>.*</object>", "", path.read_text())
        assert count
        path.write_text(text)


def evaluated_alone(root, checkpoint):
    """The losses and metrics of the network on the test pairs, by one process."""
    data = data_module(root, "data.batch_size=1")
    return quiet_trainer().test(load_module(checkpoint), data, verbose=False)[0]


def test_a_run_of_two_processes_is_stopped_and_killed_and_ends_as_one_job(tmp_path):
    # 3 pairs to evaluate: one process has a batch more than the other, which sees no object at all.
    root = write_pair_dataset(tmp_path / "data", pairs={"train": 4, "val": 3, "test": 3})
    for split in ("val", "test"):
        forget_objects(root, split, 1)
    arguments = [*TINY, f"data.root={root}", "trainer=ddp_cpu", "trainer.max_epochs=3", "data.batch_size=1"]
    quiet = ["callbacks.pictures=null", "callbacks.progress=null", "callbacks.last.every_n_steps=1"]
    # The signal reaches one process only, here the second.
    ends = [ending("stop", 1, signal.SIGTERM, 1, tmp_path), ending("kill", 3, signal.SIGKILL, 0, tmp_path)]
    stopped = start(*arguments, *quiet, *ends, "hydra.run.dir=run", cwd=tmp_path)
    assert stopped.returncode == 143, stopped.stderr
    assert stopped.stderr.count("SIGTERM ended the run. Go on with: python -m crossview.train resume=") == 1
    assert "Traceback" not in stopped.stderr
    last = tmp_path / "run/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 1

    # Returns when the last process has closed its output.
    killed = start("resume=run", cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert torch.load(last, weights_only=True)["global_step"] == 2

    done = start("resume=run", cwd=tmp_path, torchrun=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Run folder: ") == 1
    assert torch.load(last, weights_only=True)["global_step"] == 6
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    alone = evaluated_alone(root, tmp_path / "run/checkpoints/best.ckpt")
    names = {name: name for name in alone if "/loss/" in name or "/detection/" in name}
    names |= {"test/cross/ap50": "test/cross/network_ap50"}
    assert len(names) == 9  # six losses, three average precisions
    assert {name: found[told] for name, told in names.items()} == pytest.approx(
        {name: alone[name] for name in names}, rel=1e-5, abs=1e-6
    )
    # No process has made a folder of its own.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "data", "kill", "run", "stop"]


if __name__ == "__main__":
    assert os.environ["OMP_NUM_THREADS"] == "1"
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
