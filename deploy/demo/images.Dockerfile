# Disk images of a Linux guest of a few megabytes that says on its serial console that it is there, made from Debian's packages.
FROM debian:trixie-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates python3
COPY tests/parts /src/parts
ENV FEDERATION_PARTS_DIR=/guest
RUN python3 /src/parts guest start \
    && mkdir /images && cd /images \
    && cp /guest/cache/guest-*/guest.qcow2 guest.qcow2 \
    && qemu-img convert -O raw guest.qcow2 guest.raw \
    && qemu-img convert -O vhdx guest.qcow2 guest.vhdx \
    && sha256sum guest.* >SHA256SUMS

FROM debian:trixie-slim
LABEL org.opencontainers.image.title="driver-federation-demo-images" \
      org.opencontainers.image.description="A small Linux guest, for the demonstration of the driver federation" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /images /srv/images
VOLUME /srv/images
USER 10001
CMD ["ls", "-l", "/srv/images"]
