"""The only code that knows AMQP: ordered ports, the embedded broker, the oslo.messaging transport driver."""

import warnings

# oslo.messaging's dependencies import eventlet where it is installed, which warns on every start; we use threads only.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
