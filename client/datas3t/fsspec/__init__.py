"""datas3ts as folders of files, for everything that reads through fsspec: `datas3t://photos/42.jpg`.

import fsspec

with fsspec.open("datas3t://photos/42.jpg", server_url="http://localhost:8765") as file:
    file.read()
"""

from datas3t.fsspec.filesystem import Datas3tFileSystem

__all__ = ["Datas3tFileSystem"]
