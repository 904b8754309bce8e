"""datas3ts in PyTorch: datasets and loaders that shuffle exactly, and resume at the very next batch.

from datas3t.client import Client
from datas3t.torch import Datapoints, Loader
from datas3t.training import decode

photos = Datapoints(Client("http://localhost:8765").datas3t("photos"), transform=decode)
loader = Loader(photos, 256, seed=7, num_workers=4)
for batch in loader:
    learn(batch)
"""

from datas3t.torch.datapoints import Datapoints, Key
from datas3t.torch.loader import Loader, collate
from datas3t.torch.sampler import BatchSampler
from datas3t.torch.stream import Stream

__all__ = ["BatchSampler", "Datapoints", "Key", "Loader", "Stream", "collate"]
