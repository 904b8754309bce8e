"""datas3ts as datasets of Hugging Face: a stream that is shared among ranks and workers, and rows for random access.

from datas3t.client import Client
from datas3t.huggingface import iterable, rows

photos = Client("http://localhost:8765").datas3t("photos")
for row in iterable(photos):
    learn(row["image"])
batch = rows(photos)[[7, 42, 9]]
"""

from datas3t.huggingface.reading import iterable, rows

__all__ = ["iterable", "rows"]
