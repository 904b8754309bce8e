"""Messages of errors come from servers and archives: whatever they hold, an error is one line that can be printed."""

import pickle

import pytest

from datas3t import v1
from datas3t.archive import FormatError
from datas3t.client import DatapointNotFound, Datas3tError
from datas3t.server.errors import Failure

FOREIGN = "forged\n\x1b[31m\u202e\ud800"
SHOWN = r"forged\n\x1b[31m\u202e\ud800"


@pytest.mark.parametrize(
    "error",
    [
        Datas3tError(FOREIGN),
        DatapointNotFound(FOREIGN, key=7),
        FormatError(FOREIGN),
        Failure(v1.ERROR_REASON_INTERNAL, FOREIGN),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_message_of_an_error_is_escaped(error: Exception) -> None:
    assert str(error) == SHOWN


def test_it_stays_as_it_is_in_another_process() -> None:
    assert str(pickle.loads(pickle.dumps(Datas3tError(FOREIGN)))) == SHOWN
