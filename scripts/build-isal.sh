#!/usr/bin/env bash
# Builds ISA-L's CRC functions as a static library, from Debian's own source package, into build/deps/static.
#
# Debian ships ISA-L only as a shared library. With a static one, libraystorage.so needs nothing but the C library.
# The result is kept: the second run does nothing. Exits 1, with the reason, where sources or nasm cannot be had.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$ROOT/scripts/debian-source.sh"

destination=$BUILD/deps/static
work=$BUILD/deps/isal-source
[ -f "$destination/libisal.a" ] && exit 0

apt_install nasm dpkg-dev || fail "nasm and dpkg-dev are needed to build ISA-L"
mkdir -p "$destination"
say "building ISA-L's CRC functions from Debian's source package"
debian_source libisal "$work"
cd "$work"
make -C source -f Makefile.unx -j2 units=crc "CFLAGS_=-O2 -fPIC -fvisibility=hidden" lib >make.log 2>&1 \
    || fail "ISA-L does not build: see $work/make.log"
cp source/bin/isa-l.a "$destination/libisal.a"
cp source/LICENSE "$destination/LICENSE.isa-l"
