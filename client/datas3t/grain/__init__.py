"""datas3ts in Google's Grain, for JAX: a data source that checkpoints recognise, and batches by one read each.

import grain
from datas3t.client import Client
from datas3t.grain import Source, batched
from datas3t.training import decode

source = Source(Client("http://localhost:8765").datas3t("photos"), transform=decode)
batches = batched(source, grain.MapDataset.range(len(source)).shuffle(seed=7), batch_size=256)
for batch in batches.to_iter_dataset():
    learn(batch)
"""

from datas3t.grain.source import Source, batched

__all__ = ["Source", "batched"]
