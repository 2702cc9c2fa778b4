"""States on their way from boards that are too small for Flower to a gateway, and back: HTTP, or MQTT.

address   where to, and as whom
http      PUT to a web server, GET from it
mqtt      a retained message of a broker, one a board
tls       whom it trusts
sending   with tries, until it is there or cannot be
"""

__all__: list[str] = []
