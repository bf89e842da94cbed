"""RabbitMQ for the tests (tests/servers/rabbitmq.py), and pika, another client than ours, to look at it with."""
import contextlib

import pytest

from conftest import wait_for
from rabbitmq import RabbitMQ
from servers import Unavailable

pika = pytest.importorskip("pika", reason="NO PIKA HERE: `infra/setup/install.sh test` gets it from Debian")
IMAGES, DEAD = "darkroom.images", "darkroom.dead"


def new_broker(folder, **options):
    """Not started. A test without a broker is skipped, with the reason."""
    try:
        return RabbitMQ(folder, **options)
    except Unavailable as e:
        pytest.skip(str(e))


@contextlib.contextmanager
def channel(broker):
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    try:
        yield connection.channel()
    finally:
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()


def count(broker, queue):
    """Messages that wait in a queue; None when there is no such queue (yet)."""
    with contextlib.suppress(pika.exceptions.ChannelClosedByBroker), channel(broker) as ch:
        return ch.queue_declare(queue, passive=True).method.message_count


def take(broker, queue):
    """Every message of a queue, acknowledged: [(properties, body)]."""
    taken = []
    with channel(broker) as ch:
        while True:
            method, properties, body = ch.basic_get(queue)
            if method is None:
                return taken
            ch.basic_ack(method.delivery_tag)
            taken.append((properties, body))


def take_all(broker, queue, number):
    """The same, when a queue has shown so many."""
    messages = []

    def look():
        messages.extend(take(broker, queue))
        return len(messages) >= number
    wait_for(look, f"{number} messages in {queue}")
    return messages


def send(broker, queue, body, **properties):
    """A message, confirmed."""
    with channel(broker) as ch:
        ch.confirm_delivery()
        ch.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **properties))
