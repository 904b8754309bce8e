"""What a handle has read of its tables: footers, and the index of paths."""

from datas3t.client._calls.session import Session
from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client._tables.contents import Contents
from datas3t.client._tables.footers import Footers
from datas3t.client._tables.lookup import Lookup
from datas3t.client._tables.presence import Presence
from datas3t.client._tables.remote import Remote
from datas3t.client._tables.schemas import FILES


class Known:
    """What a handle has read of its tables."""

    def __init__(self, session: Session, name: str, catalogues: CatalogueCache) -> None:
        self._session = session
        self._name = name
        self._footers = Footers(session.cache_dir, session.max_cache_size)
        self._presence = Presence(catalogues)
        self._contents: dict[str, Contents] = {}
        self.names = Lookup(Remote(session, name, FILES), self._footers, self._presence)

    def contents(self, table: str) -> Contents:
        """Return the rows of a table."""
        contents = self._contents.get(table)
        if contents is None:
            remote = Remote(self._session, self._name, table)
            self._contents[table] = contents = Contents(remote, self._footers, self._presence)
        return contents

    def refresh(self) -> None:
        """Forget what may have changed."""
        self._contents = {}
        self.names.forget()

    def forget(self, table: str) -> None:
        """Forget the rows of a table that has changed."""
        if table == FILES:
            self.names.forget()
