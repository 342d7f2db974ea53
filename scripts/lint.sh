#!/usr/bin/env bash
# Every check that needs no build: Swift format, house rules and layers, the header alone, ruff, mypy --strict.
# Runs all of them and fails at the end, so that one run shows everything.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT" || exit 1

failed=()
check() {
    local title=$1
    shift
    if "$@"; then say "ok: $title"; else failed+=("$title"); fi
}

bin=$ROOT/.venv/bin
mapfile -t python_files < <(git ls-files --cached --others --exclude-standard '*.py' | grep -v '^python/')
mapfile -t package_files < <(git ls-files --cached --others --exclude-standard 'python/*.py')
mapfile -t shell_files < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)

check "swift format" swift format lint -r --strict Package.swift Sources Tests
check "layers and house rules" scripts/check-layers.py
check "header" scripts/check-header.sh
check "ruff" "$bin/ruff" check -q "${python_files[@]}" "${package_files[@]}"
check "ruff format" "$bin/ruff" format -q --check "${python_files[@]}" "${package_files[@]}"
[ ${#python_files[@]} -eq 0 ] || check "mypy of scripts" env MYPYPATH=python:Tests/faults:Tests "$bin/mypy" --strict --follow-imports=silent --no-error-summary "${python_files[@]}"
if [ -f python/pyproject.toml ]; then
    check "mypy of the package" "$bin/mypy" --strict --no-error-summary --config-file python/pyproject.toml python/raystorage
fi
for file in "${shell_files[@]}"; do check "bash -n $file" bash -n "$file" 2>/dev/null; done

[ ${#failed[@]} -eq 0 ] || fail "lint: ${failed[*]}"
