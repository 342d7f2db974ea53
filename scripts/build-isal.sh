#!/usr/bin/env bash
# Builds ISA-L's CRC functions as a static library, from Debian's own source package, into build/deps/static.
#
# Debian ships ISA-L only as a shared library. With a static one, libraystorage.so needs nothing but the C library.
# The result is kept: the second run does nothing. Exits 1, with the reason, where sources or nasm cannot be had.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

destination=$BUILD/deps/static
work=$BUILD/deps/isal-source
[ -f "$destination/libisal.a" ] && exit 0

apt_install nasm dpkg-dev || fail "nasm and dpkg-dev are needed to build ISA-L"

# A private copy of the package lists with sources, so that the machine's own configuration stays as it is.
rm -rf "$work"
mkdir -p "$work/sources" "$work/lists/partial" "$destination"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$file" ] && sed -n 's/^deb /deb-src /p' "$file" >>"$work/sources/copy.list"
done
for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources/$(basename "$file")"
done
apt_options=(-q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/sources" -o "Dir::State::lists=$work/lists"
    -o APT::Sandbox::User=)
cd "$work"
say "building ISA-L's CRC functions from Debian's source package"
apt-get "${apt_options[@]}" update >apt.log 2>&1 || fail "no source lists: see $work/apt.log"
apt-get "${apt_options[@]}" source --download-only libisal >>apt.log 2>&1 || fail "no source package: see $work/apt.log"
dpkg-source --no-check -x libisal_*.dsc isal >>apt.log 2>&1
make -C isal -f Makefile.unx -j2 units=crc "CFLAGS_=-O2 -fPIC -fvisibility=hidden" lib >make.log 2>&1 \
    || fail "ISA-L does not build: see $work/make.log"
cp isal/bin/isa-l.a "$destination/libisal.a"
cp isal/LICENSE "$destination/LICENSE.isa-l"
