"""Services, storage and the network between them die at random moments during 300 uploads: nothing that
was acknowledged is lost or doubled. `make faults` plays 50 rounds of 1,000."""
import pytest

import fault_world

pytestmark = [pytest.mark.faults, pytest.mark.threads]


@pytest.mark.parametrize("kind, number", fault_world.rounds())
def test_round(tmp_path, services, kind, number):
    fault_world.play(kind, number, tmp_path, services)
