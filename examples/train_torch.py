"""Train a small model on a datas3t of JSON samples, on the CPU; after kill -9, the same command goes on exactly there.

$ pip install 'datas3t[torch]'
$ python examples/train_torch.py --server-url http://localhost:8765 --datas3t points --checkpoint points.pt

Each sample is `{"x": [...], "y": number}`. Model, optimizer and the state of the loader are saved in one file, which
replaces the one before in one step: so they always belong to the same batch.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from datas3t.client import Client, Datapoint
from datas3t.torch import Datapoints, Loader
from datas3t.training import decode


def sample(datapoint: Datapoint) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the input, the target and the key of a sample."""
    fields = decode(datapoint)
    return torch.tensor(fields["x"]), torch.tensor(fields["y"]), datapoint.key


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, so that a crash leaves the one before or this one."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main() -> None:
    """Train, and print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--server-url", required=True)
    parser.add_argument("--datas3t", required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    # The same seeds in each run, so that a run that was resumed ends with the same model.
    torch.manual_seed(1)
    dataset = Datapoints(Client(arguments.server_url).datas3t(arguments.datas3t), transform=sample)
    loader = Loader(dataset, arguments.batch_size, seed=1, uneven="keep", num_workers=arguments.workers)
    model = torch.nn.Sequential(torch.nn.Linear(len(dataset[0][0]), 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    # Go on where the checkpoint is, if there is one.
    if arguments.checkpoint.exists():
        checkpoint = torch.load(arguments.checkpoint)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        loader.load_state_dict(checkpoint["loader"])

    # Train, with a checkpoint after each step. A large model is saved less often: the steps since are done again.
    for epoch in range(loader.epoch, arguments.epochs):
        for inputs, targets, keys in loader:
            loss = torch.nn.functional.mse_loss(model(inputs).squeeze(1), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
            save(arguments.checkpoint, state)
            print(epoch, f"{loss.item():.6f}", *keys.tolist(), flush=True)


if __name__ == "__main__":
    main()
