#!/bin/bash
# Makes a root directory with another Debian release's stock FRR in it, for tests against newer FRR than this machine's.
#
# Usage: frr-chroot.sh 10.3|10.7
#
# Prints the directory's path on standard output and progress on standard error. A directory that is complete is kept and
# used again; OPENPE_CACHE moves the place (default /var/cache/openpe). Needs root, debootstrap and Debian's mirror.
set -euo pipefail

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | head -n 6 >&2; exit 2; }
say() { echo "frr-chroot: $*" >&2; }

[ $# = 1 ] || usage
version=$1
cache=${OPENPE_CACHE:-/var/cache/openpe}
case $version in
  10.3) suite=trixie ;;
  10.7) suite=testing ;;
  *) usage ;;
esac
root=$cache/frr-$version
stamp=$root/.complete

if [ -e "$stamp" ]; then
  echo "$root"
  exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/frr-$version.lock"
flock 9
if [ -e "$stamp" ]; then
  echo "$root"
  exit 0
fi

command -v debootstrap >/dev/null || { say "installing debootstrap"; apt-get install -y -q --no-install-recommends debootstrap >&2; }
# Wherever this machine gets Debian from is good for the other release too.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
[ -n "$mirror" ] || { say "no Debian mirror in this machine's apt sources"; exit 1; }

say "unpacking Debian $suite with FRR $version (about a minute)"
# A mount left by a run that died would be emptied through.
if findmnt -rno TARGET | grep -q "^$root/"; then
  findmnt -rno TARGET | grep "^$root/" | sort -r | xargs -r umount
fi
rm -rf "$root"
# The script's name decides how; the suite's own may be newer than this debootstrap.
script=
[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=sid
if ! debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" $script >"$cache/frr-$version.log" 2>&1; then
  tail -n 20 "$cache/frr-$version.log" >&2
  say "debootstrap failed; the whole log is $cache/frr-$version.log"
  exit 1
fi
# Only FRR's files and those of what it links are needed: services are never started here, so a configure step that
# wants an init system may fail without harm.
{
  chroot "$root" apt-get -o Acquire::Check-Valid-Until=false update
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends frr frr-pythontools || true
} >>"$cache/frr-$version.log" 2>&1 </dev/null

found=$(chroot "$root" /usr/lib/frr/zebra --version 2>/dev/null | sed -n 's/^zebra version \([0-9.]*\).*/\1/p')
case $found in
  "$version" | "$version".*) ;;
  *) say "expected FRR $version in Debian $suite, found '${found:-none}'; see $cache/frr-$version.log"; exit 1 ;;
esac
chroot "$root" getent passwd frr >/dev/null || { say "user frr is missing in $root"; exit 1; }
touch "$stamp"
say "FRR $found is ready in $root"
echo "$root"
