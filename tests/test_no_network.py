"""That the tests themselves cannot reach the network, see `conftest.no_network`."""

import socket
import urllib.request

import pytest


@pytest.mark.parametrize("address", ["http://example.com", "http://192.0.2.1/"])
def test_an_address_elsewhere_is_refused(address):
    with pytest.raises(OSError, match="a test asks the network for"):
        urllib.request.urlopen(address, timeout=1)


def test_this_machine_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
