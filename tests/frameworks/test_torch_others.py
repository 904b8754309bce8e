"""datas3t.torch in torchdata's StatefulDataLoader, Lightning's Trainer and torch.distributed."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datas3t.client import Datas3t
from datas3t.embedded.ports import free_ports
from datas3t.torch import BatchSampler, Datapoints, Loader
from tests.frameworks.datasets import KEYS, key_in
from tests.frameworks.test_torch_loader import as_list, expected

torch = pytest.importorskip("torch")


def key_of(sample: Any) -> int:
    return key_in(sample.content)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
@pytest.mark.parametrize(("workers", "every"), [(0, 1), (2, 1), (2, 4)])
def test_stateful_data_loader(numbers: Datas3t, workers: int, every: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    dataset = Datapoints(numbers, transform=key_of)

    def make() -> Any:
        return stateful.StatefulDataLoader(
            dataset,
            batch_sampler=BatchSampler(dataset, 10, seed=7, uneven="keep"),
            num_workers=workers,
            collate_fn=as_list,
            snapshot_every_n_steps=every,
        )

    whole = expected(0, uneven="keep")
    for steps in (1, 6, 13, 23):
        first = make()
        assert [*itertools.islice(first, steps)] == whole[:steps]
        resumed = make()
        resumed.load_state_dict(first.state_dict())
        assert list(resumed) == whole[steps:]
        assert list(resumed) == expected(1, uneven="keep")


def lightning_module(lightning: Any, stop_at: int | None) -> Any:
    class Seen(lightning.pytorch.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: list[list[int]] = []

        def training_step(self, batch: list[int], _: int) -> Any:
            self.seen.append(batch)
            if len(self.seen) == stop_at:
                self.trainer.save_checkpoint(self.path)
                raise KeyboardInterrupt
            return (self.weight * len(batch)).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Seen()


@pytest.mark.filterwarnings("ignore")  # Lightning warns about the machine and about versions
def test_a_trainer_of_lightning_resumes_at_the_next_batch(numbers: Datas3t, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    dataset = Datapoints(numbers, transform=key_of)

    def fit(module: Any, path: Path | None) -> None:
        trainer = lightning.pytorch.Trainer(
            max_epochs=2,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, Loader(dataset, 30, seed=7, num_workers=2, collate_fn=as_list), ckpt_path=path)

    whole = expected(0, 30) + expected(1, 30)
    uninterrupted = lightning_module(lightning, None)
    fit(uninterrupted, None)
    assert uninterrupted.seen == whole
    for steps in (3, 9):
        first = lightning_module(lightning, steps)
        first.path = tmp_path / f"{steps}.ckpt"
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            fit(first, None)
        resumed = lightning_module(lightning, None)
        fit(resumed, first.path)
        assert (steps, first.seen) == (steps, whole[:steps])
        # The step that was stopped in its middle had not been done, but its batch had been taken.
        assert resumed.seen == whole[steps:]


RANK = """
import sys
import torch.distributed
from datas3t.client import Client, KeySet
from datas3t.torch import Datapoints, Loader
from tests.frameworks.test_torch_loader import as_list
from tests.frameworks.test_torch_others import key_of

url, name, port, rank = sys.argv[1:]
loader = Loader(Datapoints(Client(url).datas3t(name), transform=key_of), 12, seed=7, collate_fn=as_list)
torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=int(rank), world_size=2)
for batch in loader:
    parts = [None, None]
    torch.distributed.all_gather_object(parts, batch)
    if rank == "0":
        print(*parts[0], *parts[1])
torch.distributed.destroy_process_group()
"""


def test_two_processes_of_torch_distributed(numbers: Datas3t) -> None:
    (port,) = free_ports(1)
    url, name = numbers._session.url, numbers.name
    command = [sys.executable, "-c", RANK, url, name, str(port)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ranks = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True, env=environment) for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    steps = [list(map(int, line.split())) for line in outputs[0].splitlines()]
    assert steps == expected(0, 24)
    assert len({*itertools.chain(*steps)}) == len(KEYS) // 24 * 24
