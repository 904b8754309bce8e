"""Training on datas3ts, in any framework: exact orders that resume anywhere, mixtures, joins, decoding.

from datas3t.client import Client
from datas3t.training import Batches

photos = Client("http://localhost:8765").datas3t("photos")
batches = Batches(photos.keyset, 256, seed=7)
for contents in photos.batches(batches):
    learn(contents)
"""

from datas3t.training.batches import Batches
from datas3t.training.collating import collate
from datas3t.training.decoding import Audio, DecodeFailed, decode
from datas3t.training.epoch import Epoch
from datas3t.training.joined import Joined
from datas3t.training.mixture import Mixed, Mixture
from datas3t.training.order import Order, Windows

__all__ = [
    "Audio",
    "Batches",
    "DecodeFailed",
    "Epoch",
    "Joined",
    "Mixed",
    "Mixture",
    "Order",
    "Windows",
    "collate",
    "decode",
]
