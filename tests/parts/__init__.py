"""Brings up the real servers that tests need: RabbitMQ, libvirt with QEMU and a Linux guest, PostgreSQL.

Standard library only, so that it runs before anything of ours is installed. On the command line::

    python3 tests/parts PART COMMAND [NODE]
"""
