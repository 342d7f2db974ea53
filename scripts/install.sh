#!/usr/bin/env bash
# Installs library, header and pkg-config file for C and C++ trainers.
#
#   [DESTDIR=/stage] scripts/install.sh PREFIX
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

prefix=${1:?usage: scripts/install.sh PREFIX}
case "$prefix" in /*) ;; *) prefix=$PWD/$prefix ;; esac
target=${DESTDIR:-}$prefix
version=$(sed -n 's/^#define RAYSTORAGE_VERSION "\(.*\)"/\1/p' include/raystorage.h)
abi=$(sed -n 's/^#define RAYSTORAGE_ABI_VERSION \([0-9]*\)/\1/p' include/raystorage.h)
[ -f build/libraystorage.so ] || fail "build/libraystorage.so is missing: make lib"

install -d "$target/lib/pkgconfig" "$target/include"
# Under its version and through links, as the linker expects it: a running trainer keeps the file it has mapped.
install -m 755 build/libraystorage.so "$target/lib/libraystorage.so.$version.new"
mv "$target/lib/libraystorage.so.$version.new" "$target/lib/libraystorage.so.$version"
ln -sf "libraystorage.so.$version" "$target/lib/libraystorage.so.$abi"
ln -sf "libraystorage.so.$abi" "$target/lib/libraystorage.so"
install -m 644 include/raystorage.h "$target/include/raystorage.h"
cat >"$target/lib/pkgconfig/raystorage.pc" <<PC
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: raystorage
Description: Checkpoints and metrics of training loops, durable without waiting for the storage
Version: $version
Libs: -L\${libdir} -lraystorage
Cflags: -I\${includedir}
PC
say "installed raystorage $version into $target"
