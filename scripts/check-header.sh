#!/usr/bin/env bash
# Checks include/raystorage.h: it compiles alone as C99 and as C++17 without a warning, and, with a library as argument,
# declares exactly the functions that the library exports.
#
#   scripts/check-header.sh [build/libraystorage.so]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

header=$ROOT/include/raystorage.h
warnings=(-Wall -Wextra -Wshadow -Wconversion -pedantic -Werror -fsyntax-only)
# A caller's use of the initialisers is part of what must compile.
initialisers=$(grep -oE '^#define RAYSTORAGE_[A-Z_]+_INIT\b' "$header" | awk '{print $2}')
source_text='#include "raystorage.h"
#include "raystorage.h"
int main(void) {
'
for name in $initialisers; do
    type=$(printf '%s' "${name%_INIT}" | tr '[:upper:]' '[:lower:]')
    source_text+="  $type ${type}_value = $name; (void)${type}_value;"$'\n'
done
source_text+='  return 0; }'
for compiler in gcc clang; do
    command -v "$compiler" >/dev/null 2>&1 || continue
    printf '%s\n' "$source_text" | "$compiler" -x c -std=c99 "${warnings[@]}" -I "$ROOT/include" -
    printf '%s\n' "$source_text" | "$compiler" -x c++ -std=c++17 "${warnings[@]}" -I "$ROOT/include" -
done

[ $# -ge 1 ] || exit 0
declared=$(sed -e 's,/\*.*\*/,,' -e '/^ \*/d' -e '/^\/\*/d' "$header" | grep -v '^#' \
    | grep -oE '\braystorage_[a-z0-9_]+\(' | tr -d '(' | sort -u)
exported=$(nm -D --defined-only "$1" | awk '{print $3}' | sed 's/@.*//' | sort -u)
if ! difference=$(diff <(printf '%s\n' "$declared") <(printf '%s\n' "$exported")); then
    message="header and exports differ (< only in the header, > only in the library):"$'\n'$(grep '^[<>]' <<<"$difference")
    # While functions are being written the library may lag behind its header; never the other way round.
    if [ -n "${RAYSTORAGE_INCOMPLETE:-}" ] && ! grep -q '^>' <<<"$difference"; then
        say "warning: $message"
    else
        fail "$message"
    fi
fi
