#!/usr/bin/env bash
# Builds build/libraystorage.so: release, Swift runtime inside, only raystorage_* exported, stripped; then checks it.
#
#   RAYSTORAGE_SHARED_DEPS=1   link the system's shared ISA-L, curl, OpenSSL, expat and C++ runtime, not static ones
#
# Without the sources of ISA-L and curl the shared ones are taken; only wheels then fail (scripts/build-wheel.sh says so).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

soname=libraystorage.so.1
# With curl, OpenSSL and expat inside 4 MiB more.
max_bytes=$((16 * 1024 * 1024))
max_glibc=2.34
command -v swift >/dev/null 2>&1 || fail "swift is not in PATH: install Swift 6.3"
mkdir -p "$BUILD/deps/static"

extra=()
if [ -z "${RAYSTORAGE_SHARED_DEPS:-}" ]; then
    if scripts/build-isal.sh && scripts/build-curl.sh; then
        # The directory holds archives only and comes first, so -lisal, -lcurl and the others find these. libgcc_s stays shared:
        # the unwinder of the static one needs glibc 2.35.
        ln -sf "$(gcc -print-file-name=libstdc++.a)" "$BUILD/deps/static/libstdc++.a"
        extra+=(-Xswiftc "-L$BUILD/deps/static")
        max_bytes=$((20 * 1024 * 1024))
    else
        say "linking shared libraries instead"
    fi
fi
clang -O2 -fPIC -Wall -Wextra -Werror -c scripts/glibc-compat.c -o "$BUILD/deps/glibc-compat.o"

# --static-swift-stdlib alone is ignored for dynamic products, and gold leaks symbols: hence -static-stdlib and lld.
swift build -c release --product raystorage --static-swift-stdlib \
    -Xswiftc -static-stdlib -Xswiftc -use-ld=lld "${extra[@]}" \
    -Xlinker "--version-script=$ROOT/libraystorage.map" -Xlinker "-soname=$soname" \
    -Xlinker "$BUILD/deps/glibc-compat.o" -Xlinker --wrap=hypotf -Xlinker --wrap=arc4random_buf -Xlinker --gc-sections -Xlinker --as-needed

# A new file and a rename: a process that has the old one mapped keeps it.
strip --strip-unneeded -o "$BUILD/libraystorage.so.new" "$(swift build -c release --show-bin-path)/libraystorage.so"
mv "$BUILD/libraystorage.so.new" "$BUILD/libraystorage.so"
ln -sf libraystorage.so "$BUILD/$soname"

library=$BUILD/libraystorage.so
size=$(stat -c %s "$library")
[ "$size" -le "$max_bytes" ] || fail "$library is $size bytes, more than $max_bytes"
needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
case "$needed" in *swift* | *dispatch* | *Foundation*) fail "$library still needs $needed" ;; esac
glibc=$(readelf --version-info -W "$library" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
[ "$(printf '%s\n%s\n' "$glibc" "$max_glibc" | sort -V | tail -n 1)" = "$max_glibc" ] \
    || fail "$library needs glibc $glibc, more than $max_glibc: $(nm -D "$library" | grep "GLIBC_$glibc" | tr '\n' ' ')"
scripts/check-header.sh "$library"
say "$library: $size bytes, needs $needed(glibc $glibc)"
