# A hypervisor to try things on: libvirt with QEMU that emulates the processor, so it needs neither /dev/kvm nor privileges.
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        libvirt-clients libvirt-daemon libvirt-daemon-driver-network libvirt-daemon-driver-nodedev libvirt-daemon-driver-qemu \
        libvirt-daemon-driver-storage libvirt-daemon-log qemu-system-x86 qemu-utils tini \
    && rm -rf /var/lib/apt/lists/*
# libvirtd looks up who connects to its socket: the user of our images.
RUN useradd --system --uid 10001 --user-group federation
LABEL org.opencontainers.image.title="driver-federation-demo-libvirt-host" \
      org.opencontainers.image.description="libvirt with emulated QEMU, for the demonstration of the driver federation" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY deploy/demo/libvirtd.conf deploy/demo/qemu.conf /etc/libvirt/
COPY --chmod=755 deploy/demo/libvirt-host.sh /usr/local/bin/libvirt-host
VOLUME /srv/libvirt
HEALTHCHECK --interval=15s --timeout=20s --start-period=60s --start-interval=2s --retries=3 \
    CMD ["virsh", "-c", "qemu+unix:///system?socket=/srv/libvirt/libvirt-sock", "hostname"]
ENTRYPOINT ["tini", "--", "libvirt-host"]
