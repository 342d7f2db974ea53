#!/usr/bin/env bash
# Installs dist/*.whl into clean environments, without Swift, compilers or this checkout in sight, and uses it there:
# with the oldest and newest Python that this machine has, and the one in between that is called python3.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

wheel=$(echo dist/raystorage-*.whl)
[ -f "$wheel" ] || fail "no wheel in dist: make wheel"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One line per interpreter that runs: its version and its path. Pythons before 3.9 are not supported.
interpreters() {
    local candidate
    for candidate in python3 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3 /usr/bin/python3; do
        "$candidate" -c 'import ensurepip, sys; assert sys.version_info >= (3, 9); print("%d.%d" % sys.version_info[:2], sys.executable)' \
            2>/dev/null || true
    done | sort -uV -k1,1
}
mapfile -t found < <(interpreters)
[ ${#found[@]} -gt 0 ] || fail "no Python 3.9 or later found"
chosen=("${found[0]}")
[ ${#found[@]} -gt 2 ] && chosen+=("${found[$((${#found[@]} / 2))]}")
[ ${#found[@]} -gt 1 ] && chosen+=("${found[-1]}")

passed=0
failed=0
for entry in "${chosen[@]}"; do
    version=${entry%% *}
    mkdir -p "$work/$version/home"
    "${entry#* }" -m venv "$work/$version/venv"
    "$work/$version/venv/bin/python" -m pip install -q --disable-pip-version-check --no-index --no-deps "$wheel"
    cp scripts/smoke_wheel.py "$work/$version/smoke.py"
    if (cd "$work/$version" && env -i PATH=/usr/bin:/bin HOME="$work/$version/home" LANG=C.UTF-8 \
        "$work/$version/venv/bin/python" -X faulthandler smoke.py "$work/$version/data"); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        say "the wheel does not work on Python $version"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
