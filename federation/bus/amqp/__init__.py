"""The link to RabbitMQ: py-amqp's handshake and channels, with an I/O loop and hot-path frames of our own."""
