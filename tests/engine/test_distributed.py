"""Processes on several nodes meet on an interface that leads from one to another."""

import pytest

from realign.engine import distributed
from realign.engine.distributed import INTERFACE, interface_towards


def test_the_interface_towards_an_address_is_found():
    assert interface_towards("127.0.0.1") == "lo"


@pytest.mark.parametrize(
    ("towards", "local", "given", "chosen"),
    [
        ({"node1": "ib0"}, 2, None, "ib0"),
        ({"node1": "lo", distributed.ANYWHERE: "eth0"}, 2, None, "eth0"),  # on the first node itself
        ({"node1": "lo"}, 2, None, None),
        ({"node1": "ib0"}, 4, None, None),  # all processes on one node
        ({"node1": "ib0"}, 2, "eth1", "eth1"),
    ],
)
def test_nodes_meet_on_no_loopback(monkeypatch, towards, local, given, chosen):
    monkeypatch.setattr(distributed, "interface_towards", towards.get)
    monkeypatch.setattr(distributed.os, "environ", {"WORLD_SIZE": "4", "MASTER_ADDR": "node1"})
    distributed.os.environ["LOCAL_WORLD_SIZE"] = str(local)
    if given:
        distributed.os.environ[INTERFACE] = given
    distributed._choose_interface()
    assert distributed.os.environ.get(INTERFACE) == chosen
