"""The only code that knows AMQP: ordered ports, the embedded broker, the oslo.messaging transport driver."""
