#!/bin/bash
# Installs what building, testing and the lab need and this machine does not have yet, from Debian's packages.
# Quick when nothing is missing. Needs root only when something is.
set -euo pipefail

packages=(
  # To build: DPDK with its headers, a compiler and bindgen's libclang, protoc for the gRPC interface.
  libdpdk-dev pkg-config gcc libc6-dev libclang-dev protobuf-compiler make
  # What the nodes are made of, and testpmd to compare with and to be the other side of vhost-user and memif ports. libdpdk-dev
  # brings all drivers along; a node that only runs needs librte-net-{af-packet,vhost,memif,virtio}23 and those of its NICs.
  frr frr-pythontools dpdk-dev iproute2 kmod
  # The lab, where the kernel has no VRF devices, and what its tests look with.
  user-mode-linux ethtool tcpdump iputils-ping traceroute util-linux procps
  # Bridges of Open vSwitch that host sessions are put into. Tests start it by themselves.
  openvswitch-switch
  # Chroots of newer FRRs.
  debootstrap
)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "deps: installing ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    echo "deps: that needs root" >&2
    exit 1
  fi
  # Debian starts services that it installs; ours brings its own FRR and Open vSwitch instances and must not
  # find others running.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  install=(apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}")
  # Package lists that are missing or old are the usual reason for a failure.
  "${install[@]}" || { apt-get update -q && "${install[@]}"; }
fi
command -v cargo >/dev/null || { echo "deps: there is no Rust toolchain; see https://rustup.rs" >&2; exit 1; }
