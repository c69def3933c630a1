#!/bin/bash
# Builds and tests dpdk-sys and dpdk against DPDK 24.11, from Debian 13 in a root directory of its own.
#
# Usage: build-dpdk-24.11.sh [PACKAGE...]
#
# The packages are crates of this workspace (default: dpdk-sys dpdk). The machine's own Rust toolchain is used, and the
# crates that its cargo has fetched. A root directory that is complete is kept and used again; OPENPE_CACHE moves the place
# (default /var/cache/openpe). Needs root, debootstrap, a Rust toolchain and Debian's mirror.
set -euo pipefail

say() { echo "build-dpdk-24.11: $*" >&2; }

[ $# -gt 0 ] || set -- dpdk-sys dpdk
[ "$(id -u)" = 0 ] || { say "needs root"; exit 1; }
cache=${OPENPE_CACHE:-/var/cache/openpe}
root=$cache/trixie-dpdk
stamp=$root/.complete
source=$(cd "$(dirname "$0")/../.." && pwd)
packages=ca-certificates,libdpdk-dev,libclang-dev,gcc,libc6-dev,pkg-config,protobuf-compiler,iproute2,iputils-ping

mkdir -p "$cache"
exec 9>"$cache/trixie-dpdk.lock"
flock 9

if [ ! -e "$stamp" ]; then
  command -v debootstrap >/dev/null || { say "installing debootstrap"; apt-get install -y -q --no-install-recommends debootstrap >&2; }
  # Wherever this machine gets Debian from is good for the other release too.
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
  [ -n "$mirror" ] || { say "no Debian mirror in this machine's apt sources"; exit 1; }
  say "unpacking Debian 13 with DPDK (some minutes)"
  rm -rf "$root"
  # The script's name decides how; the suite's own may be newer than this debootstrap.
  script=
  [ -e /usr/share/debootstrap/scripts/trixie ] || script=sid
  if ! debootstrap --variant=minbase --include="$packages" trixie "$root" "$mirror" $script >"$cache/trixie-dpdk.log" 2>&1; then
    tail -n 20 "$cache/trixie-dpdk.log" >&2
    say "debootstrap failed; the whole log is $cache/trixie-dpdk.log"
    exit 1
  fi
  touch "$stamp"
fi

version=$(chroot "$root" pkg-config --modversion libdpdk)
case $version in
  24.11*) say "DPDK $version in $root" ;;
  *) say "expected DPDK 24.11 in Debian 13, found '$version'"; exit 1 ;;
esac

cargo fetch --locked --manifest-path "$source/Cargo.toml" >&2
toolchain=$(rustc --print sysroot)
home=${CARGO_HOME:-$HOME/.cargo}
flags=()
for package in "$@"; do flags+=(-p "$package"); done

# The mounts live in a namespace of their own, so nothing is left to unmount. 9 is the lock, which builds need not hold.
mkdir -p "$root"/{opt/rust,opt/cargo,src,target}
exec unshare --mount --propagation private bash -euc '
  root=$1 toolchain=$2 home=$3 source=$4; shift 4
  # ip netns exec changes how / is mounted, so it has to be a mount.
  mount --bind "$root" "$root"
  mount --bind "$toolchain" "$root/opt/rust"
  mount --bind "$home" "$root/opt/cargo"
  mount --bind -o ro "$source" "$root/src"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  exec chroot "$root" env -i PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CARGO_HOME=/opt/cargo \
    CARGO_TARGET_DIR=/target RUSTUP_AUTO_INSTALL=0 \
    sh -ec "cd /src; exec cargo test --offline --locked \"\$@\"" sh "$@"
' bash "$root" "$toolchain" "$home" "$source" -j2 "${flags[@]}" 9>&-
