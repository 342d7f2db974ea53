#!/usr/bin/env bash
# Builds dist/raystorage-<version>-py3-none-manylinux_2_34_x86_64.whl, self-contained, and checks it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

max_bytes=$((20 * 1024 * 1024))
python=$ROOT/.venv/bin/python
# A wheel for other machines carries its dependencies inside.
scripts/build-isal.sh && scripts/build-curl.sh || fail "a wheel needs static libraries"
scripts/build-library.sh

header_version=$(sed -n 's/^#define RAYSTORAGE_VERSION "\(.*\)"/\1/p' include/raystorage.h)
package_version=$(sed -n 's/^version = "\(.*\)"/\1/p' python/pyproject.toml | head -n 1)
[ "$header_version" = "$package_version" ] \
    || fail "include/raystorage.h says version $header_version, python/pyproject.toml $package_version"

rm -rf dist
(unset RAYSTORAGE_LIBRARY && "$python" -m build -q --wheel --no-isolation --outdir dist python)
wheel=$(echo dist/raystorage-*.whl)
size=$(stat -c %s "$wheel")
[ "$size" -le "$max_bytes" ] || fail "$wheel is $size bytes, more than $max_bytes"
case "$wheel" in *-py3-none-manylinux_2_34_x86_64.whl) ;; *) fail "$wheel has another tag" ;; esac
# What the library really asks for, by auditwheel's policies: it must not be more than the tag says.
"$python" -m auditwheel show "$wheel" >dist/auditwheel.txt
tr '\n' ' ' <dist/auditwheel.txt | grep -q 'consistent with the following platform tag: *"manylinux_2_\(1[0-9]\|2[0-9]\|3[0-4]\)_x86_64"' \
    || { cat dist/auditwheel.txt >&2; fail "$wheel does not keep to manylinux_2_34"; }
say "$wheel: $size bytes"
